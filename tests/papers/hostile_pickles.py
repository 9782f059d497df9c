"""Pickles in place of human_accuracy.pickle that harm a trusting reader.

Those of `COSTLY` take all memory or do not end; those of `kinds` are refused
at once.
"""

import array
import collections
import decimal
import fractions
import functools
import pickle
import struct
import types

_HEAD = b"\x80\x04"
_TEXT = lambda text: b"\x8c" + bytes([len(text)]) + text.encode()
_NAME = lambda module, name: _TEXT(module) + _TEXT(name) + b"\x93"


def _levels(first: bytes, step: bytes, count: int) -> bytes:
  return _HEAD + first + count * step + b"."


def _keys(value: bytes) -> bytes:
  """Returns a dictionary with a key of human_accuracy.pickle and a value."""
  return _HEAD + b"}" + _TEXT("labeled_images") + value + b"s."


_PAIRS = b"2\x86"  # two of the last value, as a tuple


def _laughing_lists() -> bytes:
  parts = [_HEAD, b"]\x94"]
  for i in range(200):
    parts.append(b"(" + 2 * b"h%c" % (i, i) + b"l\x94")
  return b"".join(parts) + b"."


def _laughing_dicts() -> bytes:
  parts = [_HEAD, b"}\x94"]
  for i in range(200):
    parts.append(b"(K\x01" + b"h%c" % i + b"K\x02" + b"h%c" % i + b"d\x94")
  return b"".join(parts) + b"."


# Each level doubles what is shown of it, or the hashes of its inner tuples.
COSTLY = {
  "laughing tuples": _levels(b"K\x01", _PAIRS, 200),
  "laughing lists": _laughing_lists(),
  "laughing dicts": _laughing_dicts(),
  "laughs in a dict": _keys(b"K\x01" + 200 * _PAIRS),
  "hash of a dict key": _HEAD + b"}K\x01" + 60 * _PAIRS + b"K\x01s.",
  "hash of a set's entry": _HEAD + b"\x8f(K\x01" + 60 * _PAIRS + b"\x90.",
  "hash of a frozenset's entry": _HEAD + b"(K\x01" + 60 * _PAIRS + b"\x91.",
  "laughing texts": _HEAD
  + _NAME("builtins", "str")
  + b"K\x01"
  + 60 * _PAIRS
  + b"\x85R.",
}


def _deep() -> dict[str, bytes]:
  depth = 100_000
  return {
    "deep lists": _HEAD + depth * b"]" + (depth - 1) * b"a" + b".",
    "deep tuples": _levels(b")", b"\x85", depth),
    "deep dicts": _HEAD + depth * b"}K\x01" + b"N" + depth * b"s" + b".",
    "deep frozensets": _HEAD + depth * b"(" + depth * b"\x91" + b".",
    "deep hash": _HEAD + b"})" + depth * b"\x85" + b"K\x01s.",
    "list in itself": _HEAD + b"]\x94h\x00a.",
    "dict in itself": _HEAD + b"}\x94K\x01h\x00s.",
    "marks": _HEAD + depth * b"(" + b".",
  }


def _large() -> dict[str, bytes]:
  huge = (2**31 - 1).to_bytes(4, "little")
  wide = (2**62).to_bytes(8, "little")
  return {
    "LONG4 of 2 GiB": b"\x80\x02\x8b" + huge + b"\x01.",
    "LONG4 below 0": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "LONG1 of too few bytes": b"\x80\x02\x8a\xff\x01.",
    "integer of many digits": b"\x80\x02\x8b\x00\x10\x00\x00"
    + 4096 * b"\x7f"
    + b".",
    "INT of many digits": b"I" + 20_000 * b"9" + b"\n.",
    "BINBYTES8": b"\x80\x04\x8e" + wide + b"a.",
    "BINUNICODE8": b"\x80\x04\x8d" + wide + b"a.",
    "BYTEARRAY8": b"\x80\x05\x96" + wide + b"a.",
    "BINBYTES": b"\x80\x03B\xff\xff\xff\xffa.",
    "BINUNICODE": b"\x80\x02X\xff\xff\xff\xffa.",
    "FRAME": b"\x80\x04\x95" + wide + b"N.",
    "LONG_BINPUT": b"\x80\x02Nr\xff\xff\xff\xff.",
    "PUT": b"Np99999999999999\n.",
    "PUT of 1 GiB": b"Np67108864\n.",
    "PUT below 0": b"Np-1\n.",
    "bytes from a number": b"\x80\x03cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.",
    "list of a range": b"cbuiltins\nlist\n(cbuiltins\nrange\nI9\ntRtR.",
  }


def _running(victim: str) -> dict[str, bytes]:
  touch = f"touch {victim}"
  command = b"(S'%s'\n" % touch.encode()
  return {
    "GLOBAL": b"cos\nsystem\n" + command + b"tR.",
    "INST": command + b"ios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'%s'\no." % touch.encode(),
    "STACK_GLOBAL": _HEAD + _NAME("os", "system") + _TEXT(touch) + b"\x85R.",
    "NEWOBJ": _HEAD + _NAME("os", "system") + _TEXT(touch) + b"\x85\x81.",
    "NEWOBJ_EX": _HEAD + _NAME("os", "system") + _TEXT(touch) + b"\x85}\x92.",
    "dotted name": _HEAD
    + _NAME("os", "path.os.system")
    + _TEXT(touch)
    + b"\x85R.",
    "getattr": b"cbuiltins\ngetattr\n(cos\n\nS'system'\ntR" + command + b"tR.",
    "eval": f'cbuiltins\neval\n(S\'open("{victim}", "w")\'\ntR.'.encode(),
    "factory": b"ccollections\ndefaultdict\n(cbuiltins\nopen\ntR.",
    "BUILD of a class": b"\x80\x02ccollections\ndefaultdict\n}K\x01K\x01sb.",
    "BUILD of a list": b"\x80\x02]}X\x06\0\0\0appendNsb.",
    "EXT1": b"\x80\x02\x82\x01.",
    "EXT4": b"\x80\x02\x84\x01\0\0\0.",
    "PERSID": b"P1\n.",
    "BINPERSID": b"\x80\x02K\x01Q.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "READONLY_BUFFER": b"\x80\x05N\x98.",
  }


def _others() -> dict[str, bytes]:
  dumped = {
    "class": dict,
    "bytearray": bytearray(b"a"),
    "complex": 1j,
    "range": range(3),
    "array": array.array("i", [1]),
    "Decimal": decimal.Decimal(1),
    "Fraction": fractions.Fraction(1),
    "Counter": collections.Counter("ab"),
    "partial": functools.partial(int),
    "namespace": types.SimpleNamespace(a=1),
    "deque": collections.deque([1]),
    "struct error": struct.error("x"),
  }
  whole = pickle.dumps({"labeled_images": ["a", "b"]}, 4)
  return {
    **{name: pickle.dumps([value], 5) for name, value in dumped.items()},
    "nothing": b"",
    "text": b"hello",
    "truncated": whole[:-3],
    "without its end": whole[:-1],
    "unknown protocol": b"\x80\x09.",
    "unknown opcode": b"\x80\x04\xff.",
    "popped too often": b"0.",
    "unknown memo": b"\x80\x02h\x07.",
    "zip": b"PK\x03\x04" + 30 * b"\0",
    "escapes in a name": b"c\x1b[2Jos\n\x1b]0;x\x07system\n.",
  }


def kinds(victim: str) -> dict[str, bytes]:
  """Returns name -> pickle, all to be refused.

  Args:
    victim: file that some of them would create.
  """
  return {**_deep(), **_large(), **_running(victim), **_others()}

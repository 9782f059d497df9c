/* Decodes the part of a JPEG that a crop needs and resizes it, in one call.

Rows go through the horizontal pass as they are decoded, while they are in the
cache, and wait in a ring buffer for the vertical pass: no buffer is as large as
the image. The arithmetic is Pillow's (coefficients of 22 bits, rounding to 8
bits after each pass, horizontal pass first), so the result is bitwise equal to
Pillow's if its JPEG decoder is libjpeg-turbo, too.

It does not use Python: imgbench/data/turbo.py calls it through ctypes. */

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

/* Older versions interpolate the chroma of 4:4:0 differently, and IJG's library
   cannot skip rows. */
#if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || \
    LIBJPEG_TURBO_VERSION_NUMBER < 2001000
#error "libjpeg-turbo 2.1 or newer is needed"
#endif

#ifndef TURBO_SOURCE
#define TURBO_SOURCE 0
#endif

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* The vector code below is GNU C, for any processor. On x86-64 it is compiled
   for AVX2 and for the baseline, and chosen at load time: without AVX2 it is no
   faster than other decoders. */
#ifdef __has_attribute
#if __has_attribute(target_clones) && defined(__x86_64__) && defined(__GLIBC__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef CLONES
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

typedef int32_t ints4 __attribute__((vector_size(16)));
typedef int32_t ints8 __attribute__((vector_size(32)));

enum { BILINEAR, BICUBIC };
enum {
  BITS = 22, /* of a coefficient, as in Pillow */
  LANES = 8,
  BLOCK = 4 * LANES,
  ROWS = 4,   /* most rows read at once */
  MARGIN = 2, /* columns at a cropped side without their neighbours' chroma */
};

/* One axis: result i is the sum of `count[i]` sources from `first[i]` on. */
struct axis {
  int taps;     /* most sources of a result */
  int stride;   /* of a row of weights */
  int from, to; /* sources in use: [from, to) */
  int *first, *count;
  int32_t *weight; /* [results][stride], 0 after the last */
};

/* The arguments of turbo_crop. */
struct job {
  const uint8_t *data;
  size_t size;
  int factor, height, width;
  double top, left, rows, columns;
  int method;
  uint8_t *out;
  int out_rows, out_columns;
};

struct work {
  struct job job;
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr handler;
  jmp_buf leave;
  char *message;
  struct axis x, y;
  int num_pairs;      /* of taps */
  int32_t *pairs;     /* x.weight, each four times, two taps side by side */
  uint8_t *pixels;    /* ROWS decoded rows, RGBX */
  size_t row_bytes;   /* of one decoded row */
  int32_t *wide;      /* one decoded row, as integers */
  int32_t *ring;      /* rows after the horizontal pass, RGB */
  ptrdiff_t pitch;    /* from one row of the ring to the next */
  const int32_t **at; /* the rows of one result */
};

/* Leaves at any warning: the file is damaged, or Pillow decides. */
static void leave(j_common_ptr jpeg) {
  struct work *work = jpeg->client_data;
  jpeg->err->format_message(jpeg, work->message);
  longjmp(work->leave, 1);
}

static void emit(j_common_ptr jpeg, int level) {
  if (level < 0) leave(jpeg);
}

static double kernel(int method, double x) {
  x = fabs(x);
  if (method == BILINEAR) return x < 1 ? 1 - x : 0;
  const double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

static void *allocate(size_t count, size_t size) {
  return count && size > SIZE_MAX / count ? NULL : calloc(count, size);
}

/* Fills an axis as Pillow's precompute_coeffs does. */
static int plan(struct axis *axis, int sources, int results, double start,
                double length, int method) {
  /* Pillow takes the box in single precision. */
  const float begin = (float)start, end = (float)(start + length);
  const double scale = (double)(end - begin) / results;
  const double filter_scale = scale < 1 ? 1 : scale;
  const double support = (method == BILINEAR ? 1 : 2) * filter_scale;
  const double inverse = 1 / filter_scale;
  /* No more than the sources within the support, and than all sources. */
  const double widest = ceil(support) * 2 + 1;
  const int stride = widest < sources ? (int)widest : sources;
  double *exact = allocate(stride, sizeof *exact);
  axis->first = allocate(results, sizeof *axis->first);
  axis->count = allocate(results, sizeof *axis->count);
  axis->weight = allocate((size_t)results * stride, sizeof *axis->weight);
  if (!exact || !axis->first || !axis->count || !axis->weight) {
    free(exact);
    return 0;
  }
  axis->stride = stride;
  axis->taps = 0;
  axis->from = sources;
  axis->to = 0;
  for (int i = 0; i < results; i++) {
    const double centre = begin + (i + 0.5) * scale;
    int first = (int)(centre - support + 0.5);
    int last = (int)(centre + support + 0.5);
    if (first < 0) first = 0;
    if (first > sources - 1) first = sources - 1;
    if (last > sources) last = sources;
    int count = last - first < 1 ? 1 : last - first;
    if (count > stride) count = stride;
    int32_t *weight = axis->weight + (size_t)i * stride;
    double sum = 0;
    for (int t = 0; t < count; t++) {
      exact[t] = kernel(method, (t + first - centre + 0.5) * inverse);
      sum += exact[t];
    }
    for (int t = 0; t < count; t++) {
      const double w = (sum != 0 ? exact[t] / sum : exact[t]) * (1 << BITS);
      weight[t] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
    axis->first[i] = first;
    axis->count[i] = count;
    if (count > axis->taps) axis->taps = count;
    if (first < axis->from) axis->from = first;
    if (first + count > axis->to) axis->to = first + count;
  }
  free(exact);
  return 1;
}

/* Returns a sum without its fraction, clipped to [0, 255]. */
INLINE int32_t to_level(int32_t sum) {
  sum >>= BITS;
  return sum < 0 ? 0 : sum > 255 ? 255 : sum;
}

/* Sums `n` pairs of taps of a row of pixels for each result. */
INLINE void sum_taps(const int32_t *wide, const int *first,
                     const int32_t *pairs, int n, int results, int32_t *out) {
  const int half = 1 << (BITS - 1);
  for (ptrdiff_t i = 0; i < results; i++, pairs += LANES * n) {
    const int32_t *source = wide + first[i];
    ints8 sum = {half, half, half, half};
    for (int t = 0; t < n; t++) {
      ints8 a, b;
      memcpy(&a, source + LANES * t, sizeof a);
      memcpy(&b, pairs + LANES * t, sizeof b);
      sum += a * b;
    }
    ints4 halves[2];
    memcpy(halves, &sum, sizeof sum);
    halves[0] += halves[1];
    memcpy(out + 3 * i, halves, sizeof *halves); /* the next overwrites X */
  }
}

CLONES static void horizontal(const uint8_t *pixels, int columns, int32_t *wide,
                              const int *first, const int32_t *pairs, int n,
                              int results, int32_t *out) {
  for (ptrdiff_t i = 0; i < 4 * (ptrdiff_t)columns; i++) wide[i] = pixels[i];
  /* Constants for the usual numbers, so that loops have no branch. */
  switch (n) {
    case 1: sum_taps(wide, first, pairs, 1, results, out); break;
    case 2: sum_taps(wide, first, pairs, 2, results, out); break;
    case 3: sum_taps(wide, first, pairs, 3, results, out); break;
    default: sum_taps(wide, first, pairs, n, results, out);
  }
  /* With the X of the last result: it goes through the vertical pass, too. */
  for (ptrdiff_t i = 0; i < 3 * (ptrdiff_t)results + 1; i++)
    out[i] = to_level(out[i]);
}

/* Sums rows into one row of bytes; rows are padded to a multiple of BLOCK. */
CLONES static void vertical(const int32_t *const *rows, const int32_t *weight,
                            int taps, ptrdiff_t lanes, uint8_t *out) {
  for (ptrdiff_t i = 0; i < lanes; i += BLOCK) {
    ints8 sums[BLOCK / LANES];
    for (int j = 0; j < BLOCK / LANES; j++)
      sums[j] = (ints8){0} + (1 << (BITS - 1));
    for (int t = 0; t < taps; t++) {
      const int32_t w = weight[t];
      for (int j = 0; j < BLOCK / LANES; j++) {
        ints8 levels;
        memcpy(&levels, rows[t] + i + LANES * j, sizeof levels);
        sums[j] += levels * w;
      }
    }
    int32_t total[BLOCK];
    memcpy(total, sums, sizeof sums);
    uint8_t levels[BLOCK];
    for (int j = 0; j < BLOCK; j++) levels[j] = to_level(total[j]);
    if (lanes - i >= BLOCK)
      memcpy(out + i, levels, BLOCK);
    else
      memcpy(out + i, levels, lanes - i);
  }
}

static int fail(struct work *work, const char *text) {
  strcpy(work->message, text);
  return 1;
}

/* Reads the header and computes the weights of both axes. */
static int start(struct work *work) {
  const struct job *job = &work->job;
  struct jpeg_decompress_struct *jpeg = &work->jpeg;
  const double factor = job->factor;
  jpeg_create_decompress(jpeg);
  jpeg_mem_src(jpeg, job->data, job->size);
  jpeg_read_header(jpeg, TRUE);
  if (jpeg->image_height != (JDIMENSION)job->height ||
      jpeg->image_width != (JDIMENSION)job->width)
    return fail(work, "the header states two sizes");
  jpeg->scale_num = 1;
  jpeg->scale_denom = job->factor;
  jpeg->out_color_space = JCS_EXT_RGBX;
  jpeg->dct_method = JDCT_ISLOW;
  jpeg_start_decompress(jpeg);
  if (!plan(&work->y, jpeg->output_height, job->out_rows, job->top / factor,
            job->rows / factor, job->method) ||
      !plan(&work->x, jpeg->output_width, job->out_columns, job->left / factor,
            job->columns / factor, job->method))
    return fail(work, "out of memory");
  return 0;
}

/* Crops the columns and allocates the buffers. */
static int make_room(struct work *work) {
  struct jpeg_decompress_struct *jpeg = &work->jpeg;
  const struct axis *x = &work->x;
  const JDIMENSION all = jpeg->output_width;
  JDIMENSION left = x->from > MARGIN ? x->from - MARGIN : 0;
  JDIMENSION columns = x->to + MARGIN;
  columns = (columns < all ? columns : all) - left;
  if (columns < all) jpeg_crop_scanline(jpeg, &left, &columns); /* widens it */

  const size_t results = work->job.out_columns;
  const size_t n = work->num_pairs = (x->taps + 1) / 2;
  /* libjpeg-turbo writes aligned rows past the cache, and reading them back is
     slow: so no row is aligned. */
  work->row_bytes = (4 * (size_t)columns + 63) / 64 * 64;
  work->pixels = allocate(ROWS + 1, work->row_bytes);
  work->wide = allocate(columns + 2 * n, 4 * sizeof *work->wide);
  work->pairs = allocate(results * n, 8 * sizeof *work->pairs);
  work->pitch = (3 * results + BLOCK) / BLOCK * BLOCK;
  work->ring = allocate(work->y.taps, work->pitch * sizeof *work->ring);
  work->at = allocate(work->y.taps, sizeof *work->at);
  if (!work->pixels || !work->wide || !work->pairs || !work->ring || !work->at)
    return fail(work, "out of memory");
  for (size_t i = 0; i < results; i++) {
    x->first[i] = 4 * (x->first[i] - (int)left); /* lanes */
    for (int t = 0; t < x->taps; t++)
      for (int lane = 0; lane < 4; lane++)
        work->pairs[(i * n * 2 + t) * 4 + lane] = x->weight[i * x->stride + t];
  }
  return 0;
}

/* Returns the row of the ring that holds a source row. */
static int32_t *place(const struct work *work, int row) {
  return work->ring + row % work->y.taps * work->pitch;
}

/* Computes the results from `done` on whose last source is `row`; returns how
   many are done then. */
static int finish(const struct work *work, int row, int done) {
  const struct axis *y = &work->y;
  const ptrdiff_t lanes = 3 * (ptrdiff_t)work->job.out_columns;
  for (; done < work->job.out_rows; done++) {
    const int count = y->count[done];
    if (y->first[done] + count != row + 1) break;
    for (int t = 0; t < count; t++)
      work->at[t] = place(work, y->first[done] + t);
    vertical(work->at, y->weight + (size_t)done * y->stride, count, lanes,
             work->job.out + done * lanes);
  }
  return done;
}

/* Decodes and resizes. Returns 0, or 1 for a problem; libjpeg's problems end in
   `leave`. */
static int run(struct work *work) {
  if (start(work) || make_room(work)) return 1;
  struct jpeg_decompress_struct *jpeg = &work->jpeg;
  const int end = work->y.to;
  JSAMPROW lines[ROWS];
  for (int i = 0; i < ROWS; i++)
    lines[i] = work->pixels + 8 + i * work->row_bytes;
  int row = work->y.from, done = 0;
  if (row) jpeg_skip_scanlines(jpeg, row);
  while (row < end) {
    const int got =
        jpeg_read_scanlines(jpeg, lines, end - row < ROWS ? end - row : ROWS);
    if (got < 1) break;
    for (int i = 0; i < got; i++, row++) {
      horizontal(lines[i], jpeg->output_width, work->wide, work->x.first,
                 work->pairs, work->num_pairs, work->job.out_columns,
                 place(work, row));
      done = finish(work, row, done);
    }
  }
  return done == work->job.out_rows ? 0 : fail(work, "rows are missing");
}

/* Has no local variables: longjmp would lose their changes. */
static int guarded(struct work *work) {
  if (setjmp(work->leave)) return 1;
  return run(work);
}

/* Returns the checksum of the source that it was built from. */
unsigned long turbo_source(void) { return TURBO_SOURCE; }

/* Returns the version of libjpeg-turbo, for which it has no function. */
const char *turbo_version(void) { return TEXT(LIBJPEG_TURBO_VERSION); }

/* Fills out, uint8 [out_rows][out_columns][3], with a resized crop of a JPEG.

data, size: the file; 8 bits, grey or colour.
factor: 1, 2, 4 or 8: decoded at 1 / factor of its size.
height, width: as its header states.
top, left, rows, columns: the crop, in pixels of that size.
method: 0 bilinear, 1 bicubic.
message: at least JMSG_LENGTH_MAX (200) bytes, for the first problem.

Returns 0, or 1 if there is a problem. */
int turbo_crop(const uint8_t *data, size_t size, int factor, int height,
               int width, double top, double left, double rows, double columns,
               int method, uint8_t *out, int out_rows, int out_columns,
               char *message) {
  struct work work;
  memset(&work, 0, sizeof work);
  work.job = (struct job){data,   size,      factor,      height, width,
                          top,    left,      rows,        columns, method,
                          out,    out_rows,  out_columns};
  message[0] = 0;
  work.message = message;
  work.jpeg.err = jpeg_std_error(&work.handler);
  work.jpeg.client_data = &work;
  work.handler.error_exit = leave;
  work.handler.emit_message = emit;
  const int result = guarded(&work);
  jpeg_destroy_decompress(&work.jpeg);
  void *memory[] = {work.x.first, work.x.count, work.x.weight, work.y.first,
                    work.y.count, work.y.weight, work.pairs, work.pixels,
                    work.wide,    work.ring,     work.at};
  for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) free(memory[i]);
  return result;
}

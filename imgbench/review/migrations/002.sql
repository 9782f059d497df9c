-- Labeling tasks and the answers of labelers, the hierarchy of the classes,
-- images of guides.

-- Groups above the classes; `parent` is the wnid of another one, '' at the top.
-- A class has a row for each of its parents too; its name is that of `class`.
CREATE TABLE hierarchy (
  wnid TEXT NOT NULL,
  parent TEXT NOT NULL,
  name TEXT NOT NULL,
  gloss TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (wnid, parent)
) STRICT, WITHOUT ROWID;

CREATE TABLE task (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  mode TEXT NOT NULL CHECK (mode IN ('training', 'evaluation')),
  part INTEGER NOT NULL CHECK (part > 0), -- images of a part
  external INTEGER NOT NULL DEFAULT 0, -- whether other sources may be used
  active INTEGER NOT NULL DEFAULT 1,
  created REAL NOT NULL
) STRICT;

CREATE TABLE task_image (
  task INTEGER NOT NULL REFERENCES task,
  position INTEGER NOT NULL,
  image INTEGER NOT NULL REFERENCES image,
  PRIMARY KEY (task, position),
  UNIQUE (task, image)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_image_image ON task_image (image);

-- Who may label, and when the feedback of training appears.
CREATE TABLE task_user (
  task INTEGER NOT NULL REFERENCES task,
  user INTEGER NOT NULL REFERENCES user,
  popup TEXT NOT NULL DEFAULT 'always'
    CHECK (popup IN ('always', 'error', 'never')),
  PRIMARY KEY (task, user)
) STRICT, WITHOUT ROWID;

-- An image that a labeler was given, and the class that the labeler gave.
CREATE TABLE answer (
  task INTEGER NOT NULL REFERENCES task,
  user INTEGER NOT NULL REFERENCES user,
  image INTEGER NOT NULL REFERENCES image,
  place INTEGER NOT NULL, -- in the labeler's order, from 0
  class INTEGER REFERENCES class, -- NULL: not confirmed yet
  shown REAL NOT NULL, -- seconds since 1970
  final INTEGER NOT NULL DEFAULT 0, -- whether it cannot change any more
  confirmed REAL, -- the last time
  ms INTEGER NOT NULL DEFAULT 0, -- active time on the image
  external INTEGER NOT NULL DEFAULT 0, -- whether other sources were used
  suggestion INTEGER CHECK (suggestion BETWEEN 1 AND 4), -- state; training
  problematic TEXT NOT NULL DEFAULT '', -- reason that was suggested
  note TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (task, user, image),
  UNIQUE (task, user, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX answer_image ON answer (image, user);

-- All that labelers confirmed, by the id that the browser gave.
CREATE TABLE confirmation (
  client TEXT PRIMARY KEY,
  task INTEGER NOT NULL,
  user INTEGER NOT NULL,
  image INTEGER NOT NULL,
  class INTEGER NOT NULL REFERENCES class,
  time REAL NOT NULL,
  ms INTEGER NOT NULL,
  FOREIGN KEY (task, user, image) REFERENCES answer
) STRICT, WITHOUT ROWID;

-- Images that a labeler may still be given: neither reviewed nor given before.
CREATE VIEW eligible AS
SELECT t.task, u.user, t.image, t.position
FROM task_image AS t JOIN task_user AS u ON u.task = t.task
WHERE NOT EXISTS (
  SELECT 1 FROM answer AS a WHERE a.image = t.image AND a.user = u.user
) AND NOT EXISTS (
  -- The plus keeps SQLite from reading all events of the user.
  SELECT 1 FROM kept_event AS e WHERE e.image = t.image AND +e.user = u.user
    AND e.kind IN ('vote', 'panel', 'category', 'save')
);

-- Images that a labeler of an evaluation may answer now: no other page may tell
-- the labeler their labels.
CREATE VIEW answerable AS
SELECT a.image, a.user FROM answer AS a JOIN task AS t ON t.id = a.task
JOIN task_user AS u ON u.task = a.task AND u.user = a.user
WHERE t.active AND t.mode = 'evaluation' AND NOT a.final;

-- Images of guides, encoded again, by the SHA-256 of that.
CREATE TABLE guide_image (
  sha256 TEXT PRIMARY KEY,
  data BLOB NOT NULL
) STRICT, WITHOUT ROWID;

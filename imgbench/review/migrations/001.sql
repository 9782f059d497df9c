-- Tables of a review database. All are STRICT. States are the codes of
-- imgbench.labels.annotations: 0 unreviewed, 1 wrong, 2 unclear, 3 correct;
-- of votes also 4, don't know. `target` is a class, or -1 for the image as a
-- whole, whose vote 3 says that no accuracy should count it.

-- Facts on the database, such as the secret that signs cookies; JSON values.
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE user (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE COLLATE NOCASE,
  role TEXT NOT NULL
    CHECK (role IN ('viewer', 'labeler', 'reviewer', 'panel', 'admin')),
  password TEXT, -- argon2; NULL until the invitation is used
  invitation TEXT UNIQUE, -- SHA-256 of the token of the one-time link
  active INTEGER NOT NULL DEFAULT 1,
  created REAL NOT NULL
) STRICT;

-- The classes of the database, in the order of their index.
CREATE TABLE class (
  id INTEGER PRIMARY KEY,
  wnid TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  gloss TEXT NOT NULL DEFAULT '',
  subsets TEXT NOT NULL DEFAULT '' -- names, separated by commas
) STRICT;

CREATE TABLE dataset (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE, -- such as imagenet2012:validation
  images TEXT NOT NULL DEFAULT '', -- JSON: where its images are, see images.py
  synthetic INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE image (
  id INTEGER PRIMARY KEY,
  public_id TEXT NOT NULL UNIQUE, -- all that reviewers see of its name
  dataset INTEGER NOT NULL REFERENCES dataset,
  name TEXT NOT NULL,
  label INTEGER NOT NULL REFERENCES class,
  entry TEXT, -- JSON of initial_annots; NULL: not annotated before
  reason TEXT, -- JSON of problematic_images; NULL: not listed
  imagenet_m INTEGER, -- its place in the list, from 1; 0: not there; NULL: ?
  annotated INTEGER, -- event of the import of entry and reason
  problematic TEXT, -- by consensus: the reason; NULL: the image counts
  panel INTEGER NOT NULL DEFAULT 0, -- the panel decides if it is problematic
  UNIQUE (dataset, name)
) STRICT;
CREATE INDEX image_panel ON image (id) WHERE panel = 1;

CREATE TABLE model (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  source TEXT NOT NULL, -- file or run
  sha256 TEXT NOT NULL, -- of the predictions
  created REAL NOT NULL
) STRICT;

-- The most probable class of each image.
CREATE TABLE model_prediction (
  model INTEGER NOT NULL REFERENCES model,
  image INTEGER NOT NULL REFERENCES image,
  class INTEGER NOT NULL REFERENCES class,
  PRIMARY KEY (model, image)
) STRICT, WITHOUT ROWID;
CREATE INDEX model_prediction_pair ON model_prediction (image, class);

-- Every class that somebody or some model gave to an image.
CREATE TABLE prediction (
  image INTEGER NOT NULL REFERENCES image,
  class INTEGER NOT NULL REFERENCES class,
  models INTEGER NOT NULL DEFAULT 0,
  imported INTEGER NOT NULL DEFAULT 0, -- state in earlier annotations
  state INTEGER NOT NULL DEFAULT 0, -- by consensus
  panel INTEGER NOT NULL DEFAULT 0, -- the panel decides
  PRIMARY KEY (image, class)
) STRICT, WITHOUT ROWID;
CREATE INDEX prediction_class ON prediction (class, image);
CREATE INDEX prediction_panel ON prediction (image) WHERE panel = 1;

CREATE TABLE campaign (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  policy TEXT NOT NULL CHECK (policy IN ('single', 'majority', 'unanimous')),
  votes INTEGER NOT NULL CHECK (votes > 0), -- needed for a decision
  show_names INTEGER NOT NULL DEFAULT 0, -- file names, to reviewers who ask
  active INTEGER NOT NULL DEFAULT 1,
  created REAL NOT NULL
) STRICT;

CREATE TABLE item (
  campaign INTEGER NOT NULL REFERENCES campaign,
  position INTEGER NOT NULL,
  image INTEGER NOT NULL REFERENCES image,
  control INTEGER NOT NULL DEFAULT 0, -- known; votes on it decide nothing
  open INTEGER NOT NULL DEFAULT 1, -- needs more votes
  lease_user INTEGER REFERENCES user,
  lease_until REAL,
  PRIMARY KEY (campaign, position),
  UNIQUE (campaign, image)
) STRICT, WITHOUT ROWID;
CREATE INDEX item_open ON item (campaign, open, position);

-- Images that a user is done with in a campaign.
CREATE TABLE saved (
  campaign INTEGER NOT NULL REFERENCES campaign,
  user INTEGER NOT NULL REFERENCES user,
  image INTEGER NOT NULL REFERENCES image,
  event INTEGER NOT NULL REFERENCES event,
  PRIMARY KEY (campaign, user, image)
) STRICT, WITHOUT ROWID;
CREATE INDEX saved_event ON saved (campaign, user, event);

-- The last vote of each user; `panel` and `control` ones apart.
CREATE TABLE vote (
  image INTEGER NOT NULL REFERENCES image,
  target INTEGER NOT NULL,
  user INTEGER NOT NULL REFERENCES user,
  panel INTEGER NOT NULL DEFAULT 0,
  state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 4),
  reason TEXT NOT NULL DEFAULT '', -- of a problematic image
  note TEXT NOT NULL DEFAULT '',
  campaign INTEGER REFERENCES campaign,
  control INTEGER NOT NULL DEFAULT 0,
  event INTEGER NOT NULL REFERENCES event,
  PRIMARY KEY (image, target, user, panel, control)
) STRICT, WITHOUT ROWID;
CREATE INDEX vote_user ON vote (user, event);

-- Kinds of images and labels that reviewers noted; -1 the image as a whole.
CREATE TABLE category (
  image INTEGER NOT NULL REFERENCES image,
  target INTEGER NOT NULL,
  category TEXT NOT NULL,
  note TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (image, target, category)
) STRICT, WITHOUT ROWID;

-- All that changes labels, in order. A consensus is an event of its own, so
-- the labels at any event, a release for example, are known.
CREATE TABLE event (
  id INTEGER PRIMARY KEY,
  time REAL NOT NULL, -- seconds since 1970
  kind TEXT NOT NULL CHECK (kind IN (
    'import', 'vote', 'panel', 'save', 'category', 'consensus', 'undo',
    'release'
  )),
  user INTEGER REFERENCES user,
  campaign INTEGER REFERENCES campaign,
  image INTEGER REFERENCES image,
  target INTEGER,
  state INTEGER, -- NULL: none
  previous INTEGER,
  reason TEXT NOT NULL DEFAULT '',
  previous_reason TEXT NOT NULL DEFAULT '',
  note TEXT NOT NULL DEFAULT '', -- of a vote; name of a release
  previous_note TEXT NOT NULL DEFAULT '',
  ms INTEGER, -- active time on the image
  client TEXT UNIQUE, -- id that the browser gave; a second one is ignored
  action TEXT, -- shared by the events of one bulk action
  undoes INTEGER UNIQUE REFERENCES event -- of kind undo
) STRICT;
CREATE INDEX event_image ON event (image, kind);
CREATE INDEX event_user ON event (user, id);
CREATE INDEX event_action ON event (action) WHERE action IS NOT NULL;
CREATE TRIGGER event_update BEFORE UPDATE ON event
BEGIN SELECT raise(ABORT, 'events are never changed'); END;
CREATE TRIGGER event_delete BEFORE DELETE ON event
BEGIN SELECT raise(ABORT, 'events are never deleted'); END;

-- Events that are not undone.
CREATE VIEW kept_event AS SELECT * FROM event AS e
WHERE NOT EXISTS (SELECT 1 FROM event AS u WHERE u.undoes = e.id);

-- Those that are votes; `control` as in vote.
CREATE VIEW vote_event AS
SELECT e.*, kind = 'panel' AS panel, kind = 'vote' AND ifnull(control, 0)
  AS control
FROM kept_event AS e
LEFT JOIN item AS i ON i.campaign = e.campaign AND i.image = e.image
WHERE kind IN ('vote', 'panel');

-- Classes of images that count, without a state and not waiting for the panel.
CREATE VIEW open_prediction AS
SELECT image, class FROM prediction JOIN image ON image.id = image
WHERE state = 0 AND prediction.panel = 0 AND problematic IS NULL;

-- Labeling guides, Markdown; the newest revision is shown.
CREATE TABLE guide (
  name TEXT NOT NULL,
  revision INTEGER NOT NULL,
  title TEXT NOT NULL,
  text TEXT NOT NULL,
  classes TEXT NOT NULL, -- JSON list of WordNet ids
  created REAL NOT NULL,
  PRIMARY KEY (name, revision)
) STRICT, WITHOUT ROWID;

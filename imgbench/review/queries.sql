-- Queries by name; parameters have the names of their columns.

-- name: votes
SELECT v.state, v.panel, v.reason, ifnull(c.policy, 'single') AS policy,
  ifnull(c.votes, 1) AS needed
FROM vote AS v LEFT JOIN campaign AS c ON c.id = v.campaign
WHERE v.image = :image AND v.target = :target AND NOT v.control
ORDER BY v.event;

-- name: logged votes
-- The last event of each vote that is not undone.
SELECT e.image, e.target, e.state, e.panel, e.reason,
  ifnull(c.policy, 'single') AS policy, ifnull(c.votes, 1) AS needed
FROM vote_event AS e LEFT JOIN campaign AS c ON c.id = e.campaign
WHERE e.state IS NOT NULL AND e.id IN (
  SELECT max(id) FROM vote_event WHERE NOT control
  GROUP BY image, target, user, panel
)
ORDER BY e.id;

-- name: read vote
SELECT state, reason, note FROM vote
WHERE image = :image AND target = :target AND user = :user
  AND panel = (:kind = 'panel') AND control = EXISTS (
    SELECT 1 FROM item WHERE :kind = 'vote' AND campaign = :campaign
      AND image = :image AND control
  );

-- name: delete vote
DELETE FROM vote
WHERE image = :image AND target = :target AND user = :user
  AND panel = (:kind = 'panel') AND control = EXISTS (
    SELECT 1 FROM item WHERE :kind = 'vote' AND campaign = :campaign
      AND image = :image AND control
  );

-- name: write vote
-- The row that the last event says, but one that is being undone.
INSERT INTO vote
SELECT image, target, user, panel, state, reason, note, campaign, control, id
FROM vote_event WHERE state IS NOT NULL AND id = (
  SELECT max(id) FROM vote_event WHERE image = :image AND kind = :kind
    AND target = :target AND user = :user AND id != :undone
    AND control = EXISTS (
      SELECT 1 FROM item WHERE :kind = 'vote' AND campaign = :campaign
        AND image = :image AND control
    )
);

-- name: read category
SELECT 3, category, note FROM category
WHERE image = :image AND target = :target AND category = :reason;

-- name: delete category
DELETE FROM category
WHERE image = :image AND target = :target AND category = :reason;

-- name: write category
INSERT INTO category SELECT image, target, reason, note FROM event
WHERE state IS NOT NULL AND id = (
  SELECT max(id) FROM kept_event WHERE image = :image AND kind = :kind
    AND target = :target AND reason = :reason AND id != :undone
);

-- name: read saved
SELECT 1, '', '' FROM saved
WHERE campaign = :campaign AND user = :user AND image = :image;

-- name: delete saved
DELETE FROM saved
WHERE campaign = :campaign AND user = :user AND image = :image;

-- name: write saved
-- The first save counts.
INSERT INTO saved SELECT campaign, user, image, id FROM event
WHERE id = (
  SELECT min(id) FROM kept_event WHERE image = :image AND kind = :kind
    AND user = :user AND campaign = :campaign AND id != :undone
);

-- name: update open
-- All campaigns are listed to use the index.
UPDATE item SET open = control OR EXISTS (
  SELECT 1 FROM open_prediction AS o WHERE o.image = item.image
)
WHERE image = :image AND campaign IN (SELECT id FROM campaign);

-- name: add label
INSERT OR IGNORE INTO prediction (image, class)
SELECT id, label FROM image WHERE id = :image AND label = :target;

-- name: last action
-- The last event of a user in a campaign, and those of the same action.
WITH last AS (
  SELECT id, action FROM kept_event
  WHERE user = :user AND campaign IS :campaign
    AND kind IN ('vote', 'panel', 'category', 'save')
  ORDER BY id DESC LIMIT 1
)
-- The plus keeps SQLite from reading all events of the user.
SELECT * FROM kept_event
WHERE +user = :user AND kind IN ('vote', 'panel', 'category', 'save')
  AND (id = (SELECT id FROM last) OR action = (SELECT action FROM last))
ORDER BY id DESC;

-- name: lease
-- Whether a user may write on an image, and needs no lease for it.
SELECT i.lease_user IS NULL OR i.lease_user = :user OR i.lease_until <= :now,
  EXISTS (
    SELECT 1 FROM saved AS s
    WHERE s.campaign = c.id AND s.image = i.image AND s.user = :user
  )
FROM item AS i JOIN campaign AS c ON c.id = i.campaign
WHERE c.id = :campaign AND c.active AND i.image = :image;

-- name: take lease
UPDATE item SET lease_user = :user, lease_until = :until
WHERE campaign = :campaign AND image = :image;

-- name: release
UPDATE item SET lease_user = NULL, lease_until = NULL
WHERE campaign = :campaign AND image = :image AND lease_user = :user;

-- name: next
SELECT i.image FROM item AS i INDEXED BY item_open
WHERE i.campaign = :campaign AND i.open = 1
  AND (i.lease_user IS NULL OR i.lease_user = :user OR i.lease_until <= :now)
  AND NOT EXISTS (
    SELECT 1 FROM saved AS s
    WHERE s.campaign = i.campaign AND s.user = :user AND s.image = i.image
  )
  AND NOT EXISTS (
    SELECT 1 FROM answerable AS a WHERE a.image = i.image AND a.user = :user
  )
ORDER BY i.position LIMIT 1;

-- name: item
SELECT i.public_id, i.name, c.show_names, item.control, v.state, v.reason,
  ifnull(v.note, '') AS note, s.event
FROM item JOIN image AS i ON i.id = item.image
JOIN campaign AS c ON c.id = item.campaign
LEFT JOIN vote AS v ON v.image = i.id AND v.target = -1 AND v.user = :user
  AND v.panel = 0 AND v.control = item.control
LEFT JOIN saved AS s ON s.campaign = c.id AND s.user = :user AND s.image = i.id
WHERE item.image = :image AND item.campaign = :campaign;

-- name: item rows
-- The label, what is open, and what the user voted on.
SELECT c.id AS class, c.wnid, c.name, c.gloss, ifnull(v.state, 0) AS state,
  c.id = i.label AS assigned
FROM image AS i
JOIN class AS c ON c.id = i.label
  OR c.id IN (SELECT class FROM prediction WHERE image = :image)
LEFT JOIN prediction AS p ON p.image = i.id AND p.class = c.id
LEFT JOIN vote AS v ON v.image = i.id AND v.target = c.id AND v.user = :user
  AND v.panel = 0 AND v.control = :control
WHERE i.id = :image AND (
  c.id = i.label OR v.state IS NOT NULL
  OR p.panel = 0 AND (p.state = 0 OR :control)
);

-- name: own categories
-- Those of the image as a whole that the user added last.
SELECT reason FROM event WHERE state IS NOT NULL AND id IN (
  SELECT max(id) FROM kept_event WHERE image = :image AND kind = 'category'
    AND user = :user AND target = -1
  GROUP BY reason
)
ORDER BY reason;

-- name: saved before
SELECT i.public_id FROM saved AS s JOIN image AS i ON i.id = s.image
WHERE s.campaign = :campaign AND s.user = :user AND s.event < :event
ORDER BY s.event DESC LIMIT 1;

-- name: saved after
SELECT i.public_id FROM saved AS s JOIN image AS i ON i.id = s.image
WHERE s.campaign = :campaign AND s.user = :user AND s.event > :event
ORDER BY s.event LIMIT 1;

-- name: counts
-- Images that a user has saved, and those open to the user.
SELECT
  (SELECT count(*) FROM saved WHERE campaign = :campaign AND user = :user)
    AS saved,
  (SELECT count(*) FROM item WHERE campaign = :campaign AND open = 1) - (
    SELECT count(*) FROM saved AS s
    JOIN item AS i ON i.campaign = s.campaign AND i.image = s.image
    WHERE s.campaign = :campaign AND s.user = :user AND i.open
  ) AS open;

-- name: grid
SELECT i.public_id AS image, ifnull(v.state, 0) AS state
FROM prediction AS p
CROSS JOIN item ON item.campaign = :campaign AND item.image = p.image
JOIN image AS i ON i.id = p.image
LEFT JOIN vote AS v ON v.image = p.image AND v.target = p.class
  AND v.user = :user AND v.panel = 0 AND NOT v.control
WHERE p.class = :target AND p.state = 0 AND p.panel = 0 AND item.open AND (
  item.lease_user IS NULL OR item.lease_user = :user
  OR item.lease_until <= :now
) AND NOT EXISTS (
  SELECT 1 FROM answerable AS a WHERE a.image = p.image AND a.user = :user
)
ORDER BY item.position LIMIT 48;

-- name: history
SELECT e.id, e.time, e.kind, e.campaign, i.public_id AS image, e.target,
  e.state, e.reason, e.note, e.action, c.name AS class
FROM kept_event AS e JOIN image AS i ON i.id = e.image
LEFT JOIN class AS c ON c.id = e.target
WHERE e.user = :user AND e.kind IN ('vote', 'panel', 'category', 'save')
ORDER BY e.id DESC LIMIT 200;

-- name: panel
SELECT public_id FROM image WHERE id IN (
  SELECT image FROM prediction WHERE panel = 1
  UNION SELECT id FROM image WHERE panel = 1
)
ORDER BY public_id;

-- name: case
SELECT i.public_id, i.panel, v.state, v.reason, v.note
FROM image AS i LEFT JOIN vote AS v ON v.image = i.id AND v.target = -1
  AND v.user = :user AND v.panel = 1
WHERE i.id = :image;

-- name: case rows
SELECT c.id AS class, c.wnid, c.name, c.gloss, ifnull(v.state, 0) AS state
FROM prediction AS p JOIN class AS c ON c.id = p.class
LEFT JOIN vote AS v ON v.image = p.image AND v.target = p.class
  AND v.user = :user AND v.panel = 1
WHERE p.image = :image AND (p.panel OR v.state IS NOT NULL);

-- name: open images
SELECT i.id FROM image AS i JOIN dataset AS d ON d.id = i.dataset
WHERE d.name IN (SELECT value FROM json_each(:datasets))
  AND EXISTS (SELECT 1 FROM open_prediction AS o WHERE o.image = i.id);

-- name: decided images
SELECT i.id FROM image AS i JOIN dataset AS d ON d.id = i.dataset
WHERE d.name IN (SELECT value FROM json_each(:datasets))
  AND i.problematic IS NULL
  AND (SELECT min(state) FROM prediction AS p WHERE p.image = i.id) > 0;

-- name: add campaign
INSERT INTO campaign (name, policy, votes, show_names, created)
VALUES (:name, :policy, :votes, :show_names, :now)
RETURNING id;

-- name: add item
INSERT INTO item (campaign, position, image, control)
VALUES (:campaign, :position, :image, :control);

-- name: priority
-- Images of data sets that hold some, with what orders them.
SELECT i.id, i.public_id, i.dataset, i.label,
  i.problematic IS NULL AND (i.entry IS NOT NULL OR max(p.state) > 0)
    AS counts,
  max(p.state = 0) AS open, sum(iif(p.state = 0, p.models, 0)) AS models,
  1 - 1.0 * max(p.models) / max(sum(p.models), 1) AS disagreement
FROM image AS i JOIN prediction AS p ON p.image = i.id
WHERE i.dataset IN (
  SELECT dataset FROM image WHERE id IN (SELECT value FROM json_each(:images))
)
GROUP BY i.id;

-- name: datasets
SELECT id, name || iif(synthetic, ' (synthetic)', '') FROM dataset AS d
WHERE EXISTS (SELECT 1 FROM image WHERE dataset = d.id) ORDER BY id;

-- name: described images
SELECT i.id, i.name, i.public_id, c.name FROM image AS i
JOIN class AS c ON c.id = i.label
WHERE i.id IN (SELECT value FROM json_each(:images));

-- name: problematic numbers
SELECT problematic, count(*) FROM image WHERE problematic IS NOT NULL
GROUP BY problematic ORDER BY count(*) DESC, problematic;

-- name: problematic images
SELECT i.public_id, i.problematic, c.name, i.name FROM image AS i
JOIN class AS c ON c.id = i.label
WHERE i.problematic = ifnull(:kind, i.problematic) ORDER BY i.id LIMIT :most;

-- name: category numbers
SELECT category, count(*) FROM category
GROUP BY category ORDER BY count(*) DESC, category;

-- name: category images
SELECT i.public_id, k.category, c.name, k.note, i.name FROM category AS k
JOIN image AS i ON i.id = k.image LEFT JOIN class AS c ON c.id = k.target
WHERE k.category = ifnull(:kind, k.category)
ORDER BY i.id, k.target, k.category LIMIT :most;

-- name: releases
-- The last column is the release before.
SELECT e.note, strftime('%Y-%m-%d %H:%M UTC', e.time, 'unixepoch'),
  ifnull(u.name, ''), (
    SELECT count(*) FROM event AS c WHERE c.kind = 'consensus' AND c.id < e.id
  ), e.id, lag(e.id, 1, 0) OVER (ORDER BY e.id)
FROM event AS e LEFT JOIN user AS u ON u.id = e.user
WHERE e.kind = 'release' ORDER BY e.id;

-- name: changes
-- What reviewers changed after event a until event b: before, after.
SELECT i.name, i.public_id, ifnull(c.name, '') AS class,
  iif(was.reason != '', was.reason, iif(was.target < 0, 'counts',
    CASE was.state WHEN 1 THEN 'wrong' WHEN 2 THEN 'unclear'
      WHEN 3 THEN 'correct' ELSE 'unreviewed' END)) AS before,
  iif(new.reason != '', new.reason, iif(new.target < 0, 'counts',
    CASE new.state WHEN 1 THEN 'wrong' WHEN 2 THEN 'unclear'
      WHEN 3 THEN 'correct' ELSE 'unreviewed' END)) AS after
FROM (
  SELECT image, target, previous AS state, previous_reason AS reason, min(id)
  FROM event WHERE kind = 'consensus' AND id > :a AND id <= :b
  GROUP BY image, target
) AS was JOIN (
  SELECT image, target, state, reason, max(id)
  FROM event WHERE kind = 'consensus' AND id > :a AND id <= :b
  GROUP BY image, target
) AS new USING (image, target)
JOIN image AS i ON i.id = was.image LEFT JOIN class AS c ON c.id = was.target
WHERE (was.state, was.reason) != (new.state, new.reason)
ORDER BY was.image, was.target;

-- name: imports
SELECT count(*) FROM image WHERE annotated > :a AND annotated <= :b;

-- name: search
-- Exact names first, then prefixes, words, and text of the gloss.
WITH found AS (
  SELECT id AS class, wnid, name, gloss, CASE
    WHEN instr(', ' || lower(name) || ', ', ', ' || :text || ', ')
      OR wnid = :text THEN 0
    WHEN instr(', ' || lower(name), ', ' || :text) THEN 1
    WHEN instr(lower(name), ' ' || :text) THEN 2
    WHEN instr(lower(gloss), :text) THEN 3
  END AS place
  FROM class
)
SELECT class, wnid, name, gloss FROM found
WHERE place IS NOT NULL AND :text != ''
ORDER BY place, class LIMIT 50;

-- Labeling tasks.

-- name: tasks
-- Open tasks of a user, or one of them.
SELECT t.id, t.name, t.mode, t.part, t.external, u.popup
FROM task AS t JOIN task_user AS u ON u.task = t.id
WHERE t.active AND u.user = :user AND t.id = ifnull(:task, t.id)
ORDER BY t.id;

-- name: progress
SELECT
  count(*) AS given, count(class) AS done, ifnull(sum(final), 0) AS final,
  (SELECT count(*) FROM eligible WHERE task = :task AND user = :user) AS open
FROM answer WHERE task = :task AND user = :user;

-- name: unconfirmed
SELECT i.id, i.public_id FROM answer AS a JOIN image AS i ON i.id = a.image
WHERE a.task = :task AND a.user = :user AND a.class IS NULL
ORDER BY a.place LIMIT 1;

-- name: give
-- The first image that is left.
INSERT INTO answer (task, user, image, place, shown)
SELECT task, user, image, (
  SELECT count(*) FROM answer WHERE task = :task AND user = :user
), :now
FROM eligible WHERE task = :task AND user = :user ORDER BY position LIMIT 1
RETURNING image;

-- name: answer
-- With the images beside it that may be opened.
WITH others AS (
  SELECT a.place, i.public_id FROM answer AS a
  JOIN image AS i ON i.id = a.image JOIN task AS t ON t.id = a.task
  WHERE a.task = :task AND a.user = :user AND NOT (final AND mode = 'evaluation')
)
SELECT a.*, i.public_id, i.label, i.problematic AS problem, c.name,
  (SELECT public_id FROM others WHERE place = a.place - 1) AS previous,
  (SELECT public_id FROM others WHERE place = a.place + 1) AS next
FROM answer AS a JOIN image AS i ON i.id = a.image
LEFT JOIN class AS c ON c.id = a.class
WHERE a.task = :task AND a.user = :user AND a.image = :image;

-- name: suggest
UPDATE answer SET suggestion = :state, problematic = :problematic, note = :note
WHERE task = :task AND user = :user AND image = :image;

-- name: remove access
DELETE FROM task_user WHERE task = :task AND user NOT IN (
  SELECT id FROM user WHERE name IN (SELECT value FROM json_each(:users))
);

-- name: add access
INSERT OR IGNORE INTO task_user (task, user)
SELECT :task, id FROM user
WHERE name IN (SELECT value FROM json_each(:users));

-- name: confirm
UPDATE answer SET class = :target, confirmed = :now, ms = ms + :ms,
  external = external OR :external
WHERE task = :task AND user = :user AND image = :image;

-- name: log confirmation
INSERT INTO confirmation (client, task, user, image, class, time, ms)
VALUES (:client, :task, :user, :image, :target, :now, :ms);

-- name: finish
-- Answers that cannot change any more.
UPDATE answer SET final = 1 WHERE task = :task AND user = :user
  AND class IS NOT NULL AND NOT final
RETURNING image, class;

-- name: add class
INSERT OR IGNORE INTO prediction (image, class) VALUES (:image, :target);

-- name: states
-- Classes of an image that reviewers see, the label among them.
SELECT c.id AS class, c.wnid, c.name, ifnull(p.state, 0) AS state
FROM class AS c LEFT JOIN prediction AS p ON p.class = c.id AND p.image = :image
WHERE c.id IN (SELECT class FROM prediction WHERE image = :image)
  OR c.id IN (:label, :target)
ORDER BY state DESC, c.id;

-- name: task choice
-- Images of a data set, and whether guides have them, or no guide or task.
SELECT *, NOT guided AND problematic IS NULL AND NOT EXISTS (
  SELECT 1 FROM task_image AS t WHERE t.image = i.id
) AS free
FROM (
  SELECT i.id, i.name, i.problematic, c.wnid, c.subsets, EXISTS (
    SELECT 1 FROM guide AS g WHERE instr(g.text, '/images/' || i.public_id)
  ) AS guided
  FROM image AS i JOIN dataset AS d ON d.id = i.dataset
  JOIN class AS c ON c.id = i.label
  WHERE d.name = :dataset
) AS i
ORDER BY id;

-- name: confusions
-- How often models gave another class than the label.
SELECT i.label, m.class, count(*) AS errors
FROM image AS i JOIN dataset AS d ON d.id = i.dataset
JOIN model_prediction AS m ON m.image = i.id
LEFT JOIN prediction AS p ON p.image = i.id AND p.class = m.class
WHERE d.name = :dataset AND m.class != i.label AND i.problematic IS NULL
  AND ifnull(p.state, 0) != 3
  AND m.model IN (SELECT id FROM model WHERE name IN (
    SELECT value FROM json_each(:models)
  ))
GROUP BY i.label, m.class;

-- Results of labeling tasks.

-- name: study progress
-- Tasks with those who may label them or did.
SELECT name, mode, iif(active, 'open', 'closed'), ifnull(labeler, 'nobody')
    AS labeler, done || ' of ' || most,
  iif(final = most, (most + part - 1) / part, final / part) || ' of '
    || ((most + part - 1) / part),
  id, active, access
FROM (
  SELECT t.*, u.name AS labeler, count(a.class) AS done,
    ifnull(sum(a.final), 0) AS final, count(a.image) + (
      SELECT count(*) FROM eligible WHERE task = t.id AND user = u.id
    ) AS most,
    EXISTS (SELECT 1 FROM task_user WHERE task = t.id AND user = u.id) AS access
  FROM task AS t LEFT JOIN user AS u ON u.id IN (
    SELECT user FROM task_user WHERE task = t.id
    UNION SELECT user FROM answer WHERE task = t.id
  )
  LEFT JOIN answer AS a ON a.task = t.id AND a.user = u.id
  GROUP BY t.id, u.id
)
ORDER BY id DESC, labeler;

-- name: study names
-- For forms: who may label, and data sets.
SELECT 'user', name FROM user WHERE active AND role != 'viewer'
UNION ALL SELECT 'set', name FROM dataset;

-- name: study images
-- The last two: whether it is of ImageNet-M (-1: unknown), whether it counts.
SELECT i.id, d.name, i.label, ifnull(i.imagenet_m > 0, -1),
  i.problematic IS NULL AND (i.entry IS NOT NULL OR EXISTS (
    SELECT 1 FROM prediction WHERE image = i.id AND state > 0
  ))
FROM image AS i JOIN dataset AS d ON d.id = i.dataset
WHERE i.id IN (
  SELECT image FROM task_image
  WHERE task IN (SELECT value FROM json_each(:tasks))
)
ORDER BY i.id;

-- name: study answers
-- As feedback tells, the label is right unless it was reviewed.
SELECT 'human_' || u.name AS name, a.image, a.class, a.place / t.part AS part,
  a.confirmed - a.shown AS seconds, a.ms / 1000.0 AS active, a.external,
  ifnull(p.state, 0) > 1 OR a.class = i.label AND NOT ifnull(p.state, 0)
    AS right
FROM answer AS a JOIN task AS t ON t.id = a.task JOIN user AS u ON u.id = a.user
JOIN image AS i ON i.id = a.image
LEFT JOIN prediction AS p ON p.image = a.image AND p.class = a.class
WHERE t.id IN (SELECT value FROM json_each(:tasks)) AND a.class IS NOT NULL
ORDER BY u.name, a.place;

-- name: study states
SELECT image, class, state FROM prediction WHERE image IN (
  SELECT image FROM task_image
  WHERE task IN (SELECT value FROM json_each(:tasks))
);

-- name: study predictions
SELECT m.name, p.image, p.class
FROM model_prediction AS p JOIN model AS m ON m.id = p.model
WHERE p.image IN (
  SELECT image FROM task_image
  WHERE task IN (SELECT value FROM json_each(:tasks))
);

-- name: study suggestions
SELECT i.name, i.public_id, u.name AS labeler, c.name AS class,
  CASE a.suggestion WHEN 1 THEN 'wrong' WHEN 2 THEN 'unclear'
    WHEN 3 THEN 'correct' WHEN 4 THEN 'don''t know' ELSE '' END AS suggestion,
  a.problematic, a.note
FROM answer AS a JOIN image AS i ON i.id = a.image
JOIN user AS u ON u.id = a.user JOIN class AS c ON c.id = a.class
WHERE a.suggestion IS NOT NULL OR a.problematic != '' ORDER BY a.confirmed DESC;

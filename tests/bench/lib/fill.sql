-- Clones the template order :count times, with all rows that the server writes for a new order: the order, its item, its
-- first status, its event and the recipients of the event, the head of the log, and the last order number of the day.
-- The SQL works on SQLite and PostgreSQL.

-- The first 13 characters of an order number are RND-YYYYMMDD-.
CREATE TEMPORARY TABLE clone AS
WITH RECURSIVE counter (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM counter WHERE i < :count)
SELECT
  i,
  'fill-order-' || i AS id,
  substr(orders.order_number, 1, 13) || (10000 + i) AS order_number,
  orders.order_number AS template_number,
  'fill-customer-' || i AS customer_id,
  'fill-chef-' || (i % 1000) AS chef_id,
  log_head.position + i AS position
FROM counter, orders, log_head
WHERE orders.id = 'fill-order-0';

INSERT INTO orders
  (id, order_number, tracking_number, status, payment_status, payment_confirmed_at, payment_reference, customer_id,
    customer_name, customer_phone, chef_id, chef_name, chef_business_name, chef_address, chef_latitude, chef_longitude,
    delivery_address, delivery_latitude, delivery_longitude, driver_id, driver_name, driver_phone, total, currency, notes,
    estimated_delivery_time, seq, created_at, updated_at)
SELECT clone.id, clone.order_number, tracking_number, status, payment_status, payment_confirmed_at, payment_reference,
  clone.customer_id, customer_name, customer_phone, clone.chef_id, chef_name, chef_business_name, chef_address,
  chef_latitude, chef_longitude, delivery_address, delivery_latitude, delivery_longitude, driver_id, driver_name,
  driver_phone, total, currency, notes, estimated_delivery_time, seq, created_at, updated_at
FROM clone, orders
WHERE orders.id = 'fill-order-0';

INSERT INTO order_item (order_id, line, name, quantity, unit_price)
SELECT clone.id, line, name, quantity, unit_price FROM clone, order_item WHERE order_id = 'fill-order-0';

INSERT INTO status_history (order_id, seq, status, at, changed_by, note)
SELECT clone.id, seq, status, at, changed_by, note FROM clone, status_history WHERE order_id = 'fill-order-0';

INSERT INTO order_event (position, order_id, seq, body)
SELECT
  clone.position,
  clone.id,
  seq,
  replace(replace(replace(replace(body, '"fill-order-0"', '"' || clone.id || '"'),
    '"fill-customer-0"', '"' || clone.customer_id || '"'),
    '"fill-chef-0"', '"' || clone.chef_id || '"'),
    clone.template_number, clone.order_number)
FROM clone, order_event
WHERE order_id = 'fill-order-0';

INSERT INTO event_audience (stretch, audience, position)
SELECT position / 512, 'user:' || chef_id, position FROM clone;

UPDATE log_head SET position = position + :count;
UPDATE order_number SET last = 10000 + :count;
DROP TABLE clone;

-- Gives the session to a new owner, and tells the one before. record::take_over.
-- ARGV prefix client | identity pod clean token incarnation | ttl | will: id delay grace message
local prefix, client, identity, pod, clean, token, incarnation, ttl = unpack(ARGV, 1, 8)
local session, will, wills = KEYS[1], KEYS[2], KEYS[3]
local flat = redis.call('HGETALL', session)
local known, open = {}, {}
for at = 1, #flat, 2 do
  known[flat[at]] = flat[at + 1]
  if tonumber(flat[at]) then
    open[#open + 1] = flat[at]
    open[#open + 1] = flat[at + 1]
  end
end
if known.i and known.i ~= identity then return {0} end

local present = known.i ~= nil and clean == '0'
local kept = {incarnation, '0'}
if present and known.e == epoch and not known.r then
  kept = {known.n, known.s}
else
  redis.call('DEL', session)
  open = {}
end
local count = string.format('%.0f', (known.c or 0) + 1)
redis.call('HSET', session, 'i', identity, 'c', count, 't', token, 'o', pod, 'e', epoch, 'n', kept[1], 's', kept[2])
redis.call('HDEL', session, 'l')
redis.call('PEXPIRE', session, ttl)

local before = known.o or ''
if before ~= '' then redis.call('SREM', prefix .. 'o:' .. before, client) end
-- A Will that waits is dropped when its client returns ([MQTT-3.1.3-9]), unless it is due: because its time has come,
-- though no pod has published it yet, or because the session ends with this and its client was not away only because a
-- pod was.
local at = redis.call('ZSCORE', wills, client)
if at then
  local id, grace, taken = unpack(redis.call('HMGET', will, 'i', 'g', 'p'))
  if id and (taken or tonumber(at) <= now() or (clean == '1' and not grace)) then
    redis.call('RENAME', will, will .. '\0' .. id)
    redis.call('ZADD', wills, taken and at or now(), client .. '\0' .. id)
  end
end
arm(prefix, client, pod, ttl, unpack(ARGV, 9, 12))
local told = before ~= '' and before or known.l
if told and told ~= pod then
  redis.call('PUBLISH', prefix .. 'pod:' .. told, count .. ' ' .. token .. ' ' .. clean .. ' ' .. client)
end
return {1, present and 1 or 0, count, kept[1], kept[2], before, open}

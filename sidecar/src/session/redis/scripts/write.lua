-- Does an owner's changes, all or none. record::write.
-- ARGV prefix client | count token confirmed | changes
local known = redis.call('HMGET', KEYS[1], 'c', 't', 'e', 's')
local why = rejected(known, ARGV[3], ARGV[4])
if why then return why end
if known[3] ~= epoch or tonumber(known[4]) < tonumber(ARGV[5]) then return 2 end
change(KEYS[1], 6, known[4])
return 0

-- Reads changes that come faster than they can be read one by one: the newest of each environment, of each host, and
-- each confirmation. It stands for those before it. A server does so for less than a reader, who answers queries too.
--
-- KEYS  1 changes
-- ARGV  1 the position after which they are read  2 how many changes at most
-- Returns {number of changes, position of the last one, 1 if each names the one before it (else 0), the newest}
--   The newest are in the order of their positions, each as its position and its fields, as an object of JSON, which a
--   reader takes in much sooner than one reply for each field. In the field `hosts` are the hosts of all the changes
--   that it stands for; it is left out if one of them has none.

local function join_hosts(set)
  local list = {}
  for host in pairs(set) do
    list[#list + 1] = host
  end
  return #list > 0 and table.concat(list, ',') or '-'
end

local found = redis.call('XREAD', 'COUNT', ARGV[2], 'STREAMS', KEYS[1], ARGV[1])
local entries = found and found[1][2] or {}
local last, is_chain = ARGV[1], 1
local newest, hosts, lacks_hosts = {}, {}, {}

for number, entry in ipairs(entries) do
  local fields = {}
  for at = 1, #entry[2], 2 do
    fields[entry[2][at]] = entry[2][at + 1]
  end
  if fields.previous ~= last then
    is_chain = 0
  end
  last = entry[1]
  local subject = 'environment ' .. (fields.environment or '')
  if fields.host then
    subject = 'host ' .. fields.host
  elseif fields.guard then
    subject = 'confirmation ' .. last
  end
  hosts[subject] = hosts[subject] or {}
  lacks_hosts[subject] = lacks_hosts[subject] or not fields.hosts
  for host in pairs((split_hosts(fields.hosts or ''))) do
    hosts[subject][host] = true
  end
  newest[subject] = {number, last, fields}
end

local order = {}
for subject, one in pairs(newest) do
  order[#order + 1] = {one, subject}
end
table.sort(order, function(one, other) return one[1][1] < other[1][1] end)

local read = {}
for _, item in ipairs(order) do
  local position, fields, subject = item[1][2], item[1][3], item[2]
  fields.hosts = not lacks_hosts[subject] and join_hosts(hosts[subject]) or nil
  read[#read + 1] = position
  read[#read + 1] = cjson.encode(fields)
end
return {#entries, last, is_chain, read}

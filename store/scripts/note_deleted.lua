-- Shared by commit_environment.lua.

-- Notes in the hash `deleted` that a document of the environment `id` is kept, as '<revision> <until>,…' with Unix
-- milliseconds of this server, and drops what is kept no more.
local function note_deleted(deleted, id, revision, seconds)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local kept = {}
  for before, till in string.gmatch(redis.call('HGET', deleted, id) or '', '(%d+) (%d+)') do
    if tonumber(till) > now then
      kept[#kept + 1] = before .. ' ' .. till
    end
  end
  kept[#kept + 1] = string.format('%s %.0f', revision, now + seconds * 1000)
  redis.call('HSET', deleted, id, table.concat(kept, ','))
end

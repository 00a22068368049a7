-- Sends the bodies of a folder in turn: N.body and N.headers ("Name: value" lines), N from 0.
-- Arguments: the folder, the number of bodies. Prints the summary as one line of JSON.

local requests, turn = {}, 0

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function init(args)
  for number = 0, tonumber(args[2]) - 1 do
    local headers = { Host = wrk.headers["Host"] }
    for name, value in read(args[1] .. "/" .. number .. ".headers"):gmatch("([^:\n]+): ([^\n]+)\n") do
      headers[name] = value
    end
    requests[number] = wrk.format("POST", nil, headers, read(args[1] .. "/" .. number .. ".body"))
  end
end

function request()
  turn = (turn + 1) % (#requests + 1)
  return requests[turn]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'summary {"requests":%d,"duration_us":%d,"p50_us":%.1f,"p99_us":%.1f,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end

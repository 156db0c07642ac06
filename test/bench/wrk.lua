-- What wrk sends, its first argument as the body, and what it counted, in a line of JSON.
-- Nothing of this runs for each call.

wrk.method = "POST"

function init(args)
  wrk.body = args[1]
  -- At once: what wrk itself prints waits for the end.
  io.stderr:write("begun\n")
end

function done(summary, latency)
  local errors = summary.errors
  local counted = {
    durationUs = summary.duration,
    answered = summary.requests,
    bytes = summary.bytes,
    wrongStatus = errors.status,
    late = errors.timeout,
    connectErrors = errors.connect,
    readErrors = errors.read,
    writeErrors = errors.write,
    p50Us = latency:percentile(50),
    p99Us = latency:percentile(99),
  }
  local fields = {}
  for name, value in pairs(counted) do
    fields[#fields + 1] = string.format('"%s":%d', name, value)
  end
  io.write("{", table.concat(fields, ","), "}\n")
end

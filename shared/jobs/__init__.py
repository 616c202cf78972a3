"""What is done each minute. A job is `run(deps, ...) -> Report`: idempotent, and told its time by the schedule.

    volume_spike.run(deps, *, minute_ms, deadline_s=None)      newest 21 closed spot bars -> readings, signals
    order_book.run(deps, *, scheduled_ms, deadline_s=None)     one depth sample per spot symbol -> readings, signals
    kline_bars.run(deps, *, minute_ms, deadline_s=None)        USD-M bars -> stored minutes; emits "bars.stored"
    features.run(deps, *, minute_ms, changed_from_ms=None)     stored bars -> features; emits "features.stored"
    sector.run(deps, *, minute_ms)                             stored features -> initiators, diffusions
    backfill.run(deps, *, end_ms, hours=17.0, progress=None)   history, resumable; progress(done, total, text)
    report.run(deps, *, since_ms, until_ms)                    what happened -> Report.to_json()
    redelivery.run(deps, *, scheduled_ms)                      pending alerts are tried again
    watchdog.run(deps, *, scheduled_ms)                        silence becomes one `system` signal, and one recovery

`minute_ms` is the open time of the bar that has just closed: floor(scheduled minute) - 1 minute.
"""

// After one second of waiting, stderr shows what meshctl waits for: on a terminal one line with a counter that is drawn
// again each second, elsewhere one plain line. stdout stays free for the answer. Most answers come within a second and
// show nothing.
import { EXIT } from './exit-codes.ts'
import { formatDuration } from './units.ts'

// The time without a line, and the interval of the counter.
const QUIET_MS = 1000

/**
 * Starts the line. `doing` says what meshctl waits for, `timeoutMs` is the longest wait and is shown. Returns the
 * function that ends it and wipes the line; the caller must call it, else the line stays and Ctrl-C keeps this handler.
 */
export function showProgress(doing: string, timeoutMs: number): () => void {
  const started = performance.now()
  const terminal = process.stderr.isTTY
  let shown = false
  const show = (): void => {
    // A timer may fire a moment before its time, so the seconds are rounded and not cut.
    const seconds = Math.round((performance.now() - started) / 1000)
    const text = `${doing} … ${formatDuration(seconds)} of at most ${formatDuration(timeoutMs / 1000)}`
    if (terminal) process.stderr.write(`\r${text}\u001b[K`)
    else if (!shown) process.stderr.write(`${doing} (at most ${formatDuration(timeoutMs / 1000)})\n`)
    shown = true
  }
  const wipe = (): void => {
    if (shown && terminal) process.stderr.write('\r\u001b[K')
  }
  const interrupted = (): void => {
    wipe()
    process.exit(EXIT.interrupted)
  }
  const timer = setInterval(show, QUIET_MS)
  // The line alone must not keep the process alive.
  timer.unref()
  // A handler replaces Node's default for SIGINT, so this one ends the process itself, after it has wiped the line.
  if (terminal) process.once('SIGINT', interrupted)
  return () => {
    clearInterval(timer)
    process.removeListener('SIGINT', interrupted)
    wipe()
  }
}

// After one second of waiting, stderr shows what meshctl waits for: on a terminal a line with a counter, elsewhere one plain line.
import { EXIT } from './exit-codes.ts'
import { formatDuration } from './units.ts'

const QUIET_MS = 1000

/** Returns the function that ends it and wipes the line. */
export function showProgress(doing: string, timeoutMs: number): () => void {
  const started = performance.now()
  const terminal = process.stderr.isTTY
  let shown = false
  const show = (): void => {
    // The timer may fire a moment early.
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
  timer.unref()
  if (terminal) process.once('SIGINT', interrupted)
  return () => {
    clearInterval(timer)
    process.removeListener('SIGINT', interrupted)
    wipe()
  }
}

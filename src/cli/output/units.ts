// Numbers as people read them. Durations show two units at most, sizes are binary.

/** Seconds as 12s, 4m12s, 14m, 3h12m, 2d5h. */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds))
  if (whole < MINUTE) return `${whole}s`
  if (whole < 10 * MINUTE) return pair(whole, [MINUTE, 'm'], [1, 's'])
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)}m`
  if (whole < DAY) return pair(whole, [HOUR, 'h'], [MINUTE, 'm'])
  return pair(whole, [DAY, 'd'], [HOUR, 'h'])
}

/** Bytes as 812 B, 1.2 MiB, 340 KiB. */
export function formatBytes(bytes: number): string {
  let value = Math.max(0, bytes)
  let unit = 0
  // 1023.95 KiB would read "1024.0 KiB": it is 1.0 MiB.
  while (value >= (unit === 0 ? 1024 : 1023.95) && unit < BYTE_UNITS.length - 1) {
    value /= 1024
    unit++
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1
  return `${value.toFixed(digits)} ${BYTE_UNITS[unit]}`
}

/** Milliseconds as 0.4ms, 12ms, 1.2s. */
export function formatMilliseconds(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)}s`
  return ms < 10 ? `${ms.toFixed(1)}ms` : `${Math.round(ms)}ms`
}

/** "3 clusters", "1 cluster". */
export function count(n: number, noun: string, plural = `${noun}s`): string {
  return `${n} ${n === 1 ? noun : plural}`
}

/** RFC 3339 text as "2026-11-23 04:12:11 UTC"; other text unchanged. */
export function formatTime(text: string): string {
  const ms = Date.parse(text)
  return Number.isNaN(ms) ? text : `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

const MINUTE = 60
const HOUR = 3600
const DAY = 86_400
const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

type Unit = readonly [seconds: number, letter: string]

function pair(seconds: number, [large, a]: Unit, [small, b]: Unit): string {
  const rest = Math.floor((seconds % large) / small)
  return `${Math.floor(seconds / large)}${a}${rest === 0 ? '' : `${rest}${b}`}`
}

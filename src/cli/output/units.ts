// Numbers as people read them, for tables and pages. Durations show at most two units, sizes use binary units (IEC
// 80000-13). Output for programs has the plain numbers instead. All functions accept any number and never throw.

/**
 * Returns seconds as 12s, 4m12s, 14m, 3h12m or 2d5h, rounded down. From ten minutes on seconds are left out, because
 * they change faster than a person compares them. A negative number, as after a step of the clock, is 0s.
 */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds))
  if (whole < MINUTE) return `${whole}s`
  if (whole < 10 * MINUTE) return pair(whole, [MINUTE, 'm'], [1, 's'])
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)}m`
  if (whole < DAY) return pair(whole, [HOUR, 'h'], [MINUTE, 'm'])
  return pair(whole, [DAY, 'd'], [HOUR, 'h'])
}

/** Returns bytes as 812 B, 1.2 MiB or 340 KiB: one decimal below 100, none from there on and for bytes. */
export function formatBytes(bytes: number): string {
  let value = Math.max(0, bytes)
  let unit = 0
  // 1023.95 KiB would be rounded to "1024 KiB", so the next unit is used from there on: 1.0 MiB.
  while (value >= (unit === 0 ? 1024 : 1023.95) && unit < BYTE_UNITS.length - 1) {
    value /= 1024
    unit++
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1
  return `${value.toFixed(digits)} ${BYTE_UNITS[unit]}`
}

/** Returns milliseconds as 0.4ms, 12ms or 1.2s: one decimal below 10 ms and from one second on. */
export function formatMilliseconds(ms: number): string {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)}s`
  return ms < 10 ? `${ms.toFixed(1)}ms` : `${Math.round(ms)}ms`
}

/**
 * Returns a number with its noun: "3 clusters", "1 cluster". `plural` is for nouns whose plural is not formed with s.
 */
export function count(n: number, noun: string, plural = `${noun}s`): string {
  return `${n} ${n === 1 ? noun : plural}`
}

/** Returns a time of RFC 3339 as "2026-11-23 04:12:11 UTC", and any other text unchanged. */
export function formatTime(text: string): string {
  const ms = Date.parse(text)
  return Number.isNaN(ms) ? text : `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

// Seconds.
const MINUTE = 60
const HOUR = 3600
const DAY = 86_400
const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

type Unit = readonly [seconds: number, letter: string]

/** Returns a duration in two units; the smaller one is left out when it is 0. */
function pair(seconds: number, [large, a]: Unit, [small, b]: Unit): string {
  const rest = Math.floor((seconds % large) / small)
  return `${Math.floor(seconds / large)}${a}${rest === 0 ? '' : `${rest}${b}`}`
}

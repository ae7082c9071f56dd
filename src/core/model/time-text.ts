// Times and durations as people read them, in refusals of tokens and newcomers.

/** The largest number of Unix seconds that Date can represent. */
const DATE_SECONDS_MAX = 8_640_000_000_000
const UNITS = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60]
] as const

/** Formats Unix seconds as ISO 8601 in UTC: "2026-11-23T04:30:00Z". A peer may say any number: never throws. */
export function timeText(seconds: number): string {
  if (!(Math.abs(seconds) <= DATE_SECONDS_MAX)) return 'a time out of range'
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')
}

/** Formats a duration as a number and its largest fitting unit: "364 days", "3 hours", "40 seconds". */
export function durationText(seconds: number): string {
  const [unit, size] = UNITS.find(([, size]) => seconds >= 2 * size) ?? ['second', 1]
  const count = Math.floor(seconds / size)
  return `${count} ${unit}${count === 1 ? '' : 's'}`
}

// The registry of health as text: the worst fault first, with its fix.
import type { FaultRow, HealthReport } from '../../api/answers.ts'
import type { Context } from '../meshd/context.ts'
import type { Colour } from './style.ts'
import { wrap } from './table.ts'
import { count, formatDuration } from './units.ts'

const COLOURS: Readonly<Record<FaultRow['severity'], Colour>> = {
  critical: 'red',
  error: 'red',
  warning: 'yellow'
}

/** The first line of a page: what is wrong, for how long, and what to do. */
export function healthLine(health: HealthReport | undefined, context: Context): string {
  if (health === undefined) return '-'
  const [worst] = health.faults
  if (worst === undefined) return context.style.paint('green', 'ok')
  const others = total(health) - 1
  return `${headline(worst, context)}${others === 0 ? '' : ` (and ${count(others, 'other fault')}: all in meshctl status)`}`
}

/** Lines before a table, so that a table is not read as if all were well. Scripts leave them out with --no-headers or -o json. */
export function healthNotes(health: HealthReport | undefined, context: Context): string[] {
  const worst = health?.faults[0]
  if (health === undefined || worst === undefined || !context.headers || worst.severity === 'warning')
    return []
  return [`# ${healthLine(health, context)}`, ...fixLines(worst, '#   ', context)]
}

/** Every fault on lines of its own. */
export function faultList(health: HealthReport | undefined, context: Context): string[] {
  if (health === undefined || health.faults.length === 0) return []
  const rows = health.faults.flatMap((fault) => [
    `  - ${headline(fault, context)}`,
    ...fixLines(fault, '    ', context)
  ])
  const more = Object.entries(health.more).map(([code, n]) => `  - and ${n} more of ${code}`)
  return [['Faults, the worst first', ...rows, ...more].join('\n')]
}

function headline(fault: FaultRow, context: Context): string {
  const seconds = (Date.now() - Date.parse(fault.since)) / 1000
  const since = Number.isNaN(seconds) ? '' : `, for ${formatDuration(seconds)}`
  return `${context.style.paint(COLOURS[fault.severity], fault.severity)}${since}: ${fault.message}`
}

function fixLines({ fix }: Pick<FaultRow, 'fix'>, indent: string, context: Context): string[] {
  if (fix === '') return []
  const text = `fix: ${fix}`
  const width = context.width === undefined ? Infinity : Math.max(20, context.width - indent.length)
  return wrap(text, width).map((line) => indent + line)
}

function total(health: HealthReport): number {
  return health.faults.length + Object.values(health.more).reduce((sum, n) => sum + n, 0)
}

// The faults of an agent as text, the worst first, each with its fix. The report comes from meshd's registry of health
// in the answers of `status` and `peers`; meshctl judges nothing itself. Agents before 0.2 send no report, so it may be
// undefined.
import type { FaultRow, HealthReport } from '../../api/answers.ts'
import type { Context } from '../meshd/context.ts'
import { PLAIN, type Colour } from './style.ts'
import { wrap } from './table.ts'
import { count, formatDuration } from './units.ts'

// Two severities are red, because both mean that something does not work. The word before the message tells them apart.
const COLOURS: Readonly<Record<FaultRow['severity'], Colour>> = {
  critical: 'red',
  error: 'red',
  warning: 'yellow'
}

/**
 * Returns one line with the worst fault, its age and the number of the others: "ok" without faults, "-" without a
 * report.
 */
export function healthLine(health: HealthReport | undefined, context: Context): string {
  if (health === undefined) return '-'
  const [worst] = health.faults
  if (worst === undefined) return context.style.paint('green', 'ok')
  const others = total(health) - 1
  return `${headline(worst, context)}${others === 0 ? '' : ` (and ${count(others, 'other fault')}: all in meshctl status)`}`
}

/**
 * Returns the lines before a table: the worst fault and its fix, so that rows are not read as if all were well. There
 * are none for a warning, because everything then works, and none with --no-headers or -o name, which scripts use.
 */
export function healthNotes(health: HealthReport | undefined, context: Context): string[] {
  const worst = health?.faults[0]
  if (health === undefined || worst === undefined || !context.headers || worst.severity === 'warning')
    return []
  const line = folded(healthLine(health, { ...context, style: PLAIN }), '# ', context)
  return [...painted(line, worst, context), ...fixLines(worst, '#   ', context)]
}

/** Returns one section with every fault and its fix, and the number of those that meshd left out; [] without faults. */
export function faultList(health: HealthReport | undefined, context: Context): string[] {
  if (health === undefined || health.faults.length === 0) return []
  const rows = health.faults.flatMap((fault) => [
    ...painted(folded(headline(fault, { ...context, style: PLAIN }), '  - ', context), fault, context),
    ...fixLines(fault, '    ', context)
  ])
  const more = Object.entries(health.more).map(([code, n]) => `  - and ${n} more of ${code}`)
  return [['Faults, the worst first', ...rows, ...more].join('\n')]
}

/**
 * "critical, for 4m5s: no tunnel to any other cluster answers". The age uses this host's clock, which is also meshd's.
 */
function headline(fault: FaultRow, context: Context): string {
  const seconds = (Date.now() - Date.parse(fault.since)) / 1000
  const since = Number.isNaN(seconds) ? '' : `, for ${formatDuration(seconds)}`
  return `${context.style.paint(COLOURS[fault.severity], fault.severity)}${since}: ${fault.message}`
}

function fixLines({ fix }: Pick<FaultRow, 'fix'>, indent: string, context: Context): string[] {
  return fix === '' ? [] : folded(`fix: ${fix}`, indent, context, indent)
}

/**
 * Returns the text in lines that fit the terminal, with `first` before the first line and `rest` before the others. The
 * text has no colours, which would count as columns.
 */
function folded(text: string, first: string, context: Context, rest = blankOf(first)): string[] {
  // On a narrow terminal lines have 20 columns at least, as in tables (table.ts).
  const width = context.width === undefined ? Infinity : Math.max(20, context.width - first.length)
  return wrap(text, width).map((line, index) => (index === 0 ? first : rest) + line)
}

/** Returns what stands before the further lines of a folded text: the comment sign of the first line, and spaces. */
function blankOf(first: string): string {
  return first.replaceAll(/[^#]/g, ' ')
}

/** Returns the lines with the severity, the first word of the text, in its colour. */
function painted(lines: readonly string[], { severity }: FaultRow, context: Context): string[] {
  return lines.map((line, index) =>
    index === 0 ? line.replace(severity, context.style.paint(COLOURS[severity], severity)) : line
  )
}

/** The number of all faults. meshd lists at most 20 per code and only counts the rest. */
function total(health: HealthReport): number {
  return health.faults.length + Object.values(health.more).reduce((sum, n) => sum + n, 0)
}

// `make bench PART=replication|dns|host JSON=<file>`: figures beside their baselines, measured in one run. Ratios hold on
// another machine; absolute figures do not. A step that fails is reported and the others still run; BENCH_ONLY=<text> runs the
// steps whose titles have that in them. The exit status says whether all could be measured, not whether all aims were met.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { PLAIN } from '../../src/cli/output/style.ts'
import { formatTable } from '../../src/cli/output/table.ts'
import type { Row, Step } from './row.ts'

const PARTS: Readonly<Record<string, () => Promise<readonly Step[]>>> = {
  dns: async () => [
    ...(await import('./dns-apart.ts')).steps,
    { title: 'dns', measure: (await import('./dns.ts')).rows }
  ],
  host: async () => [
    { title: 'host', measure: (await import('./host.ts')).rows },
    ...(await import('./change.ts')).steps,
    ...(await import('./paths.ts')).steps,
    ...(await import('./churn.ts')).steps
  ],
  replication: async () => [
    ...(await import('./replication.ts')).steps,
    ...(await import('./real-agents.ts')).steps
  ]
}

const { values } = parseArgs({ options: { part: { type: 'string' }, json: { type: 'string' } } })
const chosen = values.part === undefined ? Object.keys(PARTS) : [values.part]
const only = process.env['BENCH_ONLY'] ?? ''
const rows: Row[] = []
const failures: { readonly step: string; readonly error: string }[] = []
const beganMs = performance.now()
let running = ''
// An agent that dies takes questions with it that nobody waits for any more.
process.on('unhandledRejection', (error) => fail(error))
for (const name of chosen) {
  const part = PARTS[name]
  if (part === undefined) {
    process.stderr.write(`bench: no part ${name}; there are ${Object.keys(PARTS).join(', ')}\n`)
    process.exit(2)
  }
  const steps = (await part()).filter(({ title }) => title.includes(only))
  for (const [index, step] of steps.entries()) await take(step, `${name} ${index + 1}/${steps.length}`)
}
const table = formatTable(
  rows,
  [
    { title: 'WHAT', value: ({ name }) => name },
    { title: 'VALUE', value: ({ value, unit }) => `${figure(value)} ${unit}` },
    {
      title: 'BASELINE',
      value: ({ baseline, baselineValue, unit }) =>
        baselineValue === undefined ? '' : `${figure(baselineValue)} ${unit} (${baseline})`
    },
    { title: 'RATIO', value: ({ ratio }) => (ratio === undefined ? '' : figure(ratio)) },
    { title: 'AIM', value: ({ aim }) => aim },
    { title: 'HELD', value: ({ held }) => (held === undefined ? '' : held ? 'yes' : 'NO') }
  ],
  { style: PLAIN, headers: true, width: undefined }
)
process.stdout.write(`${table}\n`)
for (const { step, error } of failures) process.stdout.write(`FAILED  ${step}: ${error.split('\n')[0]}\n`)
const missed = rows.filter(({ held }) => held === false).length
process.stdout.write(
  `${rows.length} figures, ${missed} aims missed, ${failures.length} failures, ${seconds()} s\n`
)
process.exit(failures.length > 0 ? 1 : 0)

async function take({ title, measure }: Step, place: string): Promise<void> {
  running = title
  process.stderr.write(`bench: ${place}: ${title} …\n`)
  const fromMs = performance.now()
  try {
    const measured = await measure()
    rows.push(...measured)
    for (const { name, value, unit } of measured)
      process.stderr.write(`bench:   ${name}: ${figure(value)} ${unit}\n`)
  } catch (error) {
    fail(error)
  }
  process.stderr.write(`bench: ${place}: ${((performance.now() - fromMs) / 1000).toFixed(1)} s\n`)
  save()
}

/** After each step: whoever ends the run loses nothing. */
function save(): void {
  if (values.json === undefined) return
  writeFileSync(values.json, `${JSON.stringify({ rows, failures, seconds: seconds() }, undefined, 2)}\n`)
}

function seconds(): number {
  return Math.round((performance.now() - beganMs) / 1000)
}

function fail(error: unknown): void {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  failures.push({ step: running, error: text })
  process.stderr.write(`bench: ${running} failed: ${text}\n`)
}

function figure(value: number): string {
  return value.toLocaleString('en', { maximumSignificantDigits: 3 })
}

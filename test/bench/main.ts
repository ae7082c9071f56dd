// `make bench PART=replication|dns|host JSON=<file>`: figures beside their baselines, measured in one run. Ratios hold on
// another machine; absolute figures do not.
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { PLAIN } from '../../src/cli/style.ts'
import { formatTable } from '../../src/cli/table.ts'
import type { Row } from './row.ts'

const PARTS: Readonly<Record<string, () => Promise<{ rows(): Promise<readonly Row[]> }>>> = {
  dns: () => import('./dns.ts'),
  host: () => import('./host.ts'),
  replication: async () => {
    const [simulated, real] = await Promise.all([import('./replication.ts'), import('./real-agents.ts')])
    return { rows: async () => [...(await simulated.rows()), ...(await real.rows())] }
  }
}

const { values } = parseArgs({ options: { part: { type: 'string' }, json: { type: 'string' } } })
const chosen = values.part === undefined ? Object.keys(PARTS) : [values.part]
const rows: Row[] = []
for (const name of chosen) {
  const part = PARTS[name]
  if (part === undefined) {
    process.stderr.write(`bench: no part ${name}; there are ${Object.keys(PARTS).join(', ')}\n`)
    process.exit(2)
  }
  process.stderr.write(`bench: measuring ${name} …\n`)
  rows.push(...(await (await part()).rows()))
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
  PLAIN
)
process.stdout.write(`${table}\n`)
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ rows }, undefined, 2)}\n`)
process.exit()

function figure(value: number): string {
  return value.toLocaleString('en', { maximumSignificantDigits: 3 })
}

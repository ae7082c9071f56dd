// The page docs/reference.md: every setting and every metric of meshd, from the tables of the source. `node build/reference.ts`
// writes it; test/arch/reference.test.ts fails while it is not current.
import { writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { fileURLToPath } from 'node:url'
import { createMetrics } from '../src/app/observe/metrics.ts'
import { nodeNameOf } from '../src/app/settings/setting-values.ts'
import { envOf, SETTINGS } from '../src/app/settings/settings.ts'

export const REFERENCE = fileURLToPath(new URL('../docs/reference.md', import.meta.url))

/** Returns the text of the page. */
export async function referencePage(): Promise<string> {
  return `# Settings and metrics

\`node build/reference.ts\` writes this page from [settings.ts](../src/app/settings/settings.ts) and [metrics.ts](../src/app/observe/metrics.ts).

## Settings of meshd

A setting is a flag (\`--dns-listen\`), an environment variable (\`RHIZOME_DNS_LISTEN\`) and a key in the file that \`--config\` names (\`dns-listen:\`). The first of
these that is given counts, else the default.

${tableOf(['Setting', 'Variable', 'Default', 'What it is'], settings())}

## Metrics

\`/metrics\` at the address of the setting \`http-listen\` serves these, and those of the Node process (\`process_…\`, \`nodejs_…\`).

${tableOf(['Metric', 'Type', 'Labels', 'What it counts'], await metrics())}
`
}

function settings(): readonly (readonly string[])[] {
  return Object.entries(SETTINGS).map(([key, { initial, help }]) => [
    code(key),
    code(envOf(key)),
    defaultOf(initial),
    help
  ])
}

function defaultOf(initial: unknown): string {
  if (initial === nodeNameOf(hostname())) return 'the name of the host'
  if (Array.isArray(initial)) return defaultOf(initial.join())
  const text = typeof initial === 'string' ? initial : JSON.stringify(initial)
  return text === '' ? '' : code(text)
}

async function metrics(): Promise<readonly (readonly string[])[]> {
  const all = await createMetrics().registry.getMetricsAsJSON()
  // What the declaration of prom-client leaves out: the labels of a metric.
  const labelled = createMetrics().registry.getMetricsAsArray() as readonly {
    name: string
    labelNames?: string[]
  }[]
  const labels = new Map(labelled.map(({ name, labelNames = [] }) => [name, labelNames]))
  return all
    .filter(({ name }) => name.startsWith('rhizome_'))
    .map(({ name, type, help }) => [
      code(name),
      String(type),
      (labels.get(name) ?? []).map(code).join(', '),
      help
    ])
    .toSorted(([a = ''], [b = '']) => (a < b ? -1 : 1))
}

function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

function code(text: string): string {
  return `\`${text}\``
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(REFERENCE, await referencePage())

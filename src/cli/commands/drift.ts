// `meshctl drift` prints each difference of the kernel from what this host should have, with what the host has and should
// have and with the fix. It is the check `drift` of `meshctl doctor` alone. The request is GET /v1/doctor?check=drift.
import type { Command } from 'commander'
import type { DoctorAnswer, FindingRow } from '../../api/diagnosis-answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, endWith, print, type Context, type Rendered } from '../meshd/context.ts'
import { EXIT } from '../output/exit-codes.ts'
import { formatTable } from '../output/table.ts'
import { count } from '../output/units.ts'

// Two readings of the kernel, which take some seconds on a host with many services.
const TIMEOUT_MS = 30_000

/** Adds the command `drift`. Exit code 1 when a difference lasts. Errors of meshd: NOT_JOINED. */
export function addDrift(program: Command): void {
  const command = program
    .command('drift')
    .summary('each difference of this host from what it should have (changes nothing)')
    .description(
      'Reads routes, rules, WireGuard peers, packet filter, load balancer and kernel settings, and names each difference ' +
        'from what this host should have. It looks twice, because a host differs for a moment while something changes: a ' +
        'difference that is still there after 1.5 s has the state "lasts". meshctl plan shows the commands that would mend it.'
    )
    .action(async () => {
      const context = contextOf(command, { hasTable: true })
      const answer = await context.client.request(ENDPOINTS.doctor, {
        send: { check: 'drift' },
        field: 'findings',
        doing: 'reading the kernel',
        timeoutMs: TIMEOUT_MS
      })
      print(context, answer, (clean) => render(clean, context))
      if (answer.verdict === 'fault') endWith(EXIT.failed)
    })
  addExamples(
    command,
    [
      ['What has another program changed?', 'meshctl drift'],
      ['The commands that would mend it', 'meshctl plan']
    ],
    'Exit codes: 0 when nothing differs or meshd has mended it, 1 when a difference lasts.'
  )
}

const STATES: Readonly<Record<FindingRow['state'], string>> = { fault: 'lasts', warning: 'mended', ok: 'ok' }

/** With -o name the parts of the host in which a difference lasts. */
function render({ findings }: DoctorAnswer, context: Context): Rendered {
  const rows = findings.filter(({ state }) => state !== 'ok')
  const lasting = rows.filter(({ state }) => state === 'fault')
  if (context.format === 'name')
    return { body: [...new Set(lasting.map(({ subject }) => subject))].join('\n') }
  if (rows.length === 0)
    return { body: context.style.paint('green', 'No difference: the host has what it should have') }
  const table = formatTable<FindingRow>(
    rows,
    [
      { title: 'PART', value: ({ subject }) => subject },
      {
        title: 'STATE',
        value: ({ state }) => STATES[state],
        colour: ({ state }) => (state === 'fault' ? 'red' : 'yellow')
      },
      {
        title: 'DIFFERENCE',
        fold: 1,
        value: ({ text, fix }) => (fix === undefined ? text : `${text}; fix: ${fix}`)
      }
    ],
    context
  )
  const summary =
    lasting.length > 0
      ? context.style.paint(
          'red',
          `${count(lasting.length, 'difference')} that ${lasting.length === 1 ? 'lasts' : 'last'}`
        )
      : context.style.paint('yellow', `${count(rows.length, 'difference')}, mended by meshd`)
  return { body: `${summary}\n${table}` }
}

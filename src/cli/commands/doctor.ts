// `meshctl doctor` lets meshd examine itself, its host and the ways to the other members, and prints what it finds, the
// worst first, each with its fix. The request is GET /v1/doctor.
import type { Command } from 'commander'
import type { DoctorAnswer, FindingRow } from '../../api/diagnosis-answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, endWith, print, type Context, type Rendered } from '../meshd/context.ts'
import { EXIT } from '../output/exit-codes.ts'
import type { Colour } from '../output/style.ts'
import { formatTable } from '../output/table.ts'
import { count } from '../output/units.ts'

// Connections that are not answered, DNS servers that are dead and two readings of the kernel take some seconds each.
const TIMEOUT_MS = 30_000

/** Adds the command `doctor`. Exit code 1 when something does not work. */
export function addDoctor(program: Command): void {
  const command = program
    .command('doctor')
    .summary('examines this host and the ways to all members, with a fix for each finding')
    .description(
      'Examines the data plane, the kernel, the disk, DNS, and TCP and UDP to every gateway of the other clusters, ' +
        'and lists the faults that meshd has found by itself. It works before `meshctl init` and `meshctl join`, too, ' +
        'and changes nothing.'
    )
    .action(async () => {
      const context = contextOf(command, { hasTable: true })
      const answer = await context.client.request(ENDPOINTS.doctor, {
        field: 'findings',
        doing: 'examining this host',
        timeoutMs: TIMEOUT_MS
      })
      print(context, answer, (clean) => render(clean, context))
      if (answer.verdict === 'fault') endWith(EXIT.failed)
    })
  addExamples(
    command,
    [
      ['Everything, the worst first', 'meshctl doctor'],
      ['For a script or a ticket', 'meshctl doctor -o json'],
      ['One connection, stop by stop', 'meshctl why web.shop.svc.cluster.east:80']
    ],
    'Exit codes: 0 when all works, also with warnings; 1 when something does not work.'
  )
}

const COLOURS: Readonly<Record<FindingRow['state'], Colour>> = {
  ok: 'green',
  warning: 'yellow',
  fault: 'red'
}

/** With -o name only the names of the checks that found a fault. */
function render({ findings }: DoctorAnswer, context: Context): Rendered {
  const faults = findings.filter(({ state }) => state === 'fault')
  if (context.format === 'name') return { body: faults.map(({ check }) => check).join('\n') }
  const warnings = findings.filter(({ state }) => state === 'warning')
  const table = formatTable<FindingRow>(
    findings,
    [
      { title: 'CHECK', value: ({ check }) => check },
      { title: 'STATE', value: ({ state }) => state, colour: ({ state }) => COLOURS[state] },
      { title: 'CODE', value: ({ code = '' }) => code, shown: context.format === 'wide' },
      { title: 'SUBJECT', value: ({ subject }) => subject },
      {
        title: 'FOUND',
        fold: 1,
        value: ({ text, fix }) => (fix === undefined ? text : `${text}; fix: ${fix}`)
      }
    ],
    context
  )
  const summary =
    faults.length > 0
      ? context.style.paint('red', `${count(faults.length, 'fault')}, ${count(warnings.length, 'warning')}`)
      : warnings.length > 0
        ? context.style.paint('yellow', `It works, with ${count(warnings.length, 'warning')}`)
        : context.style.paint('green', 'All is well')
  return { body: `${summary}\n${table}` }
}

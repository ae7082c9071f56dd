// `meshctl plan` prints the operations that the next pass over this host would apply, each with its commands. meshd
// compares the desired state with the kernel by the function that a pass uses, too (core/host/plan.ts), so a pass would
// run what is printed as long as neither changes. The command changes nothing. The request is GET /v1/plan.
import type { Command } from 'commander'
import type { PlanAnswer } from '../../api/answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, print, type Context, type Rendered } from '../meshd/context.ts'
import { cleanLines } from '../output/text.ts'
import { count } from '../output/units.ts'

/**
 * Adds the command `plan`. Errors of meshd: NOT_JOINED (exit code 4), or those of reading the host. Without a data
 * plane it prints all operations for an empty host.
 */
export function addPlan(program: Command): void {
  const command = program
    .command('plan')
    .summary('what the next pass would change on this host (changes nothing)')
    .description(
      'Compares what this host should be with what its kernel has, and prints the commands that would be run, in ' +
        'order. A host that is up to date has no changes. Secrets are not shown.'
    )
    .action(async () => {
      const context = contextOf(command)
      const answer = await context.client.request(ENDPOINTS.plan, {
        field: 'steps',
        doing: 'reading the kernel'
      })
      print(context, answer, (clean) => renderPlan(clean, answer, context))
    })
  addExamples(command, [
    ['What would be done?', 'meshctl plan'],
    ['Is the host up to date? (exit code of jq)', 'meshctl plan --json | jq -e .inStep']
  ])
}

type Step = PlanAnswer['steps'][number]

/**
 * Returns one block per step: a line of comment with + (adds), - (removes) or ~ (changes), then the commands. `raw` is
 * the answer before it was cleaned: in `answer` the line breaks of scripts are replaced by \x0a, so the commands are
 * taken from `raw` and cleaned here.
 */
function renderPlan(answer: PlanAnswer, raw: PlanAnswer, context: Context): Rendered {
  if (answer.steps.length === 0) return { body: 'no changes: the host is up to date' }
  const blocks = answer.steps.map(({ op }, index) => {
    const commands = (raw.steps[index]?.commands ?? []).flatMap(cleanLines)
    const [sign, text] = summary(op)
    const colour = sign === '+' ? 'green' : sign === '-' ? 'red' : 'yellow'
    return [context.style.paint(colour, `# ${sign} ${text}`), ...commands].join('\n')
  })
  return { body: `# ${count(answer.steps.length, 'step')}\n\n${blocks.join('\n\n')}` }
}

// + adds, - removes, ~ changes.
type Sign = '+' | '-' | '~'

/** Returns the sign and one line about an operation, without the details that its commands show. */
function summary(op: Step['op']): readonly [Sign, string] {
  switch (op.kind) {
    case 'setSysctl':
      return ['~', `kernel setting ${op.sysctl.name} = ${op.sysctl.value}`]
    case 'setTunnel':
      return ['+', `tunnel ${op.tunnel.device}, UDP port ${op.tunnel.listenPort}, MTU ${op.tunnel.mtu}`]
    case 'setFilter':
      return [
        '~',
        `filter: ${count(op.filter.remoteSources.length, 'remote prefix', 'remote prefixes')} may reach ${op.filter.localDestinations.join(', ') || 'no prefix of this host'}`
      ]
    case 'setPeer':
      return [
        '+',
        `peer ${op.peer.publicKey} at ${op.peer.peerAddress ?? 'an address it dials from'}: ${op.peer.allowedIps.join(', ')}`
      ]
    case 'addRoute':
      return ['+', `route to pods ${op.route.destination}`]
    case 'addVip':
      return ['+', `service addresses ${op.vip.destination} balanced here`]
    case 'setVirtualServer':
      return [
        op.before === undefined || op.before === null ? '+' : '~',
        `virtual server ${serverOf(op.virtualServer)}: ${count(op.virtualServer.realServers.length, 'real server')}`
      ]
    case 'removeVip':
      return ['-', `service addresses ${op.vip.destination}`]
    case 'removeVirtualServer':
      return ['-', `virtual server ${serverOf(op.virtualServer)}`]
    case 'removeRoute':
      return ['-', `route to pods ${op.route.destination}`]
    case 'removePeer':
      return ['-', `peer ${op.publicKey}`]
    case 'removeFilter':
      return ['-', 'filter']
    case 'removeTunnel':
      return ['-', 'tunnel']
    default:
      // A newer meshd may send operations that this meshctl does not know. They are shown by the name of their kind.
      return ['~', String((op satisfies never as { kind: unknown }).kind)]
  }
}

/** "10.101.0.10:80/TCP", or with an IPv6 address "[fd00::1]:80/TCP". */
function serverOf(server: {
  readonly vip: string
  readonly port: number
  readonly protocol: string
}): string {
  const host = server.vip.includes(':') ? `[${server.vip}]` : server.vip
  return `${host}:${server.port}/${server.protocol}`
}

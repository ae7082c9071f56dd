// `meshctl plan` prints the commands that the next pass would run on this host. It changes nothing.
import type { Command } from 'commander'
import type { PlanAnswer } from '../../api/answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, print, type Context, type Rendered } from '../meshd/context.ts'
import { cleanLines } from '../output/text.ts'
import { count } from '../output/units.ts'

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

/** `raw` has the commands with their line breaks, which `clean` in `answer` has replaced by \\x0a. */
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

type Sign = '+' | '-' | '~'

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
      // A newer meshd may know more steps: they are shown by name.
      return ['~', String((op satisfies never as { kind: unknown }).kind)]
  }
}

function serverOf(server: {
  readonly vip: string
  readonly port: number
  readonly protocol: string
}): string {
  const host = server.vip.includes(':') ? `[${server.vip}]` : server.vip
  return `${host}:${server.port}/${server.protocol}`
}

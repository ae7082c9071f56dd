// What a bundle has of the running agent: its answers to the commands that only read, and what it alone knows (settings in
// force, its latest log lines, metrics). Without an agent each of these is named as missing with the reason.
import type { Answer, PeersAnswer, StatusAnswer } from '../../api/answers.ts'
import { ENDPOINTS } from '../../api/endpoints.ts'
import type { SupportAnswer } from '../../api/support-answer.ts'
import type { TrustAnswer } from '../../api/trust-answers.ts'
import type { Client } from '../meshd/client.ts'
import { CliError } from '../output/errors.ts'
import type { Gathering } from './gather.ts'
import type { HostNames } from './host.ts'

/** The longest wait for one answer. `doctor` takes some seconds, and a host with many services more. */
const TIMEOUT_MS = 30_000

/** The result: the names by which the host is read, and why there is no agent; absent: it has answered. */
interface AgentFound {
  readonly names: Partial<HostNames>
  readonly cluster?: string
  readonly deadBecause?: string
}

/** Asks for everything, one request after the other, so that a busy agent has one at a time. Never rejects. */
export async function gatherAgent(gathering: Gathering, client: Client): Promise<AgentFound> {
  const asking = new Asking(gathering)
  const call = { doing: 'asking meshd', timeoutMs: TIMEOUT_MS }
  const status = await asking.ask('status', () =>
    client.request(ENDPOINTS.status, { field: 'state', ...call })
  )
  const peers = await asking.ask('peers', () => client.request(ENDPOINTS.peers, { field: 'peers', ...call }))
  const trust = await asking.ask('trust', () =>
    client.request(ENDPOINTS.trust, { field: 'statements', ...call })
  )
  gathering.allow(publicValues({ status, peers, trust }))
  const answers: readonly (readonly [command: string, answer: Answer | undefined])[] = [
    ['status', status],
    ['peers', peers],
    ['trust', trust],
    [
      'services',
      await asking.ask('services', () => client.request(ENDPOINTS.services, { field: 'services', ...call }))
    ],
    [
      'routes',
      await asking.ask('routes', () => client.request(ENDPOINTS.routes, { field: 'routes', ...call }))
    ],
    [
      'events',
      await asking.ask('events', () => client.request(ENDPOINTS.events, { field: 'events', ...call }))
    ],
    [
      'doctor',
      await asking.ask('doctor', () => client.request(ENDPOINTS.doctor, { field: 'findings', ...call }))
    ],
    [
      'drift',
      await asking.ask('drift', () =>
        client.request(ENDPOINTS.doctor, { field: 'findings', send: { check: 'drift' }, ...call })
      )
    ],
    ['plan', await asking.ask('plan', () => client.request(ENDPOINTS.plan, { field: 'steps', ...call }))]
  ]
  for (const [command, answer] of answers)
    if (answer !== undefined)
      gathering.addJson(fileOf(command), `the answer of \`meshctl ${command}\``, answer)
  const support = await asking.ask('settings', () =>
    client.request(ENDPOINTS.support, { field: 'settings', ...call })
  )
  addSupport(gathering, support)
  return {
    names: {
      ...named('device', support?.settings['device'] ?? status?.dataplane.device),
      ...named('stateDir', support?.settings['state-dir'])
    },
    ...named('cluster', status?.cluster),
    ...named('deadBecause', asking.dead)
  }
}

/** What only the agent knows. Where it has not answered, `ask` has named the first of these files. */
function addSupport(gathering: Gathering, support: SupportAnswer | undefined): void {
  if (support === undefined) {
    for (const name of ['log', 'metrics']) gathering.miss(`agent/${name}.txt`, `see ${fileOf('settings')}`)
    return
  }
  const { settings, log, metrics } = support
  const left = log.left === 0 ? '' : ` (${log.left} earlier ones are not kept)`
  gathering.addJson(fileOf('settings'), 'the settings in force', settings)
  gathering.add('agent/log.txt', `the latest log lines of meshd${left}`, log.lines.join(''))
  gathering.add('agent/metrics.txt', 'the metrics, in the text form of Prometheus', metrics)
}

/** Makes requests until the agent turns out to be dead: then it is not asked again, and each file has this as its reason. */
class Asking {
  readonly #gathering: Gathering
  /** The message of the request that found no agent; undefined: it has answered so far. */
  dead: string | undefined

  constructor(gathering: Gathering) {
    this.#gathering = gathering
  }

  /** Returns the answer; undefined: it is named as missing, with what the agent said, as in no mesh. */
  async ask<A extends Answer>(command: string, request: () => Promise<A>): Promise<A | undefined> {
    try {
      if (this.dead === undefined) return await request()
      this.#gathering.miss(fileOf(command), this.dead)
    } catch (error) {
      if (!(error instanceof CliError)) throw error
      if (error.code === 'AGENT_UNREACHABLE') this.dead = error.message
      this.#gathering.miss(fileOf(command), error.message)
    }
    return undefined
  }
}

function fileOf(command: string): string {
  return `agent/${command}.json`
}

/** The values that look like keys and are public: ids, and public keys. A field that is not named here is not on the list. */
function publicValues(of: {
  readonly status: StatusAnswer | undefined
  readonly peers: PeersAnswer | undefined
  readonly trust: TrustAnswer | undefined
}): readonly string[] {
  const { status, peers, trust } = of
  return [
    status?.meshId ?? '',
    status?.peerId ?? '',
    status?.wireguardKey ?? '',
    ...(peers?.peers ?? []).map(({ peerId }) => peerId),
    ...(trust?.seats ?? []).map(({ id }) => id),
    ...(trust?.clusters ?? []).map(({ key }) => key),
    ...(trust?.statements ?? []).map(({ id }) => id)
  ]
}

function named<K extends string>(key: K, value: unknown): Partial<Record<K, string>> {
  return typeof value === 'string' ? ({ [key]: value } as Record<K, string>) : {}
}

// `meshctl why`: follows a connection from a pod or a process of this host to its destination, stop by stop, and says
// at which one it ends. Pure: a function of the question and of what this agent knows (stop.ts). The caller adds the
// stops that only a kernel and a network can answer.
// Models: `istioctl x describe` and `cilium policy trace`, which explain one part of the way each.
// Each stop is judged by itself, so an answer shows all that is wrong at once, and not the first thing only.
// The answer depends on the facts alone: the same question of two agents with the same facts has the same answer.
import { cidrContains } from '../model/cidr.ts'
import type { Ip } from '../model/values.ts'
import { explainAddress, type Way } from './addresses.ts'
import { explainName, listed } from './names.ts'
import type { Asked } from './question.ts'
import { fault, note, passes, type Stop, type WhyFacts } from './stop.ts'

/** The stops that all addresses of a name share, and the way to each of its addresses. */
interface Explanation {
  readonly stops: readonly Stop[]
  readonly ways: readonly (Way & { readonly ip: Ip })[]
  /** The upstream servers have to answer: this is no name of the mesh. */
  readonly forward: boolean
}

/** A merged name can have an address of each cluster; more ways than these are not followed. */
const WAYS_MAX = 8

/**
 * Codes of faults of this host that stop packets, or may, at a stop that the plan does not show: rules of other programs,
 * tools that fail, sources that are not accepted.
 */
const HOST_CODES: ReadonlySet<string> = new Set([
  'DATAPLANE_OFF',
  'FORWARD_DROPPED',
  'HOST_NETWORKS',
  'HOST_PART_FAILED',
  'HOST_TOOL_HANGS',
  'IPVS_RIVAL',
  'PORT_DROPPED',
  'PORT_REDIRECTED',
  'PROBES_DROPPED',
  'ROUTED_ELSEWHERE',
  'SERVICES_DROPPED',
  'SERVICE_ASKED_FROM_OUTSIDE',
  'SOURCE_FORGED',
  'SOURCE_OUTSIDE',
  'SOURCE_TRANSLATED'
])

/** Explains a question. `from`: the address of the pod that connects; left out: a process of this host does. */
export function explain(asked: Asked, from: Ip | undefined, facts: WhyFacts): Explanation {
  const source = from === undefined ? [] : [sourceStop(from, facts)]
  const named =
    asked.kind === 'name'
      ? explainName(asked.name, facts)
      : { stops: [], addresses: [asked.ip], forward: false }
  const ways = named.addresses
    .slice(0, WAYS_MAX)
    .map((ip) => ({ ip, ...explainAddress({ ...asked, ip }, facts) }))
  const more = named.addresses.slice(WAYS_MAX)
  const cut = more.length === 0 ? [] : [note('name', `the ways to ${listed(more)} are not followed`)]
  const isOfMesh = ways.some(({ stops }) => stops.length > 1)
  return {
    stops: [...named.stops, ...cut, ...source, ...(isOfMesh ? hostStops(facts) : [])],
    ways,
    forward: named.forward
  }
}

/** Service addresses serve the pods of this cluster and this host, and other clusters accept only pods as sources. */
function sourceStop(from: Ip, { view, translation }: WhyFacts): Stop {
  const own = view.clusters.get(view.self)
  const real = translation.toReal.ip(from)
  if (real !== from)
    return fault(
      'source',
      `${from} stands for ${real} of this cluster in the mesh: no pod here has it`,
      `ask with --from ${real}`
    )
  const prefix = own?.podPrefixes.find((one) => cidrContains(one, from))
  if (prefix === undefined)
    return fault(
      'source',
      `${from} is no pod of this cluster: its pod prefixes are ${listed(own?.podPrefixes ?? [])}`,
      'only pods of this cluster and this host itself use the mesh; `meshctl grant` adds a pod prefix'
    )
  const agent = own?.agents.find(({ agent: { nodePrefixes = [] } }) =>
    nodePrefixes.some((one) => cidrContains(one, from))
  )
  const seen = translation.toVirtual.ip(from)
  const inMesh = seen === from ? '' : `; other clusters see it as ${seen}`
  return passes(
    'source',
    agent === undefined
      ? `${from} is in the pod prefix ${prefix} of this cluster${inMesh}`
      : `${from} is a pod on node ${agent.agent.node} of this cluster${inMesh}`
  )
}

/** Faults of this host that a packet may meet on any way; a warning does not end it. */
function hostStops({ faults }: WhyFacts): readonly Stop[] {
  return faults
    .filter(({ code }) => HOST_CODES.has(code))
    .map(({ severity, message, fix }): Stop => ({
      stop: 'host',
      state: severity === 'warning' ? 'note' : 'fault',
      text: message,
      ...(fix === '' ? {} : { fix })
    }))
}

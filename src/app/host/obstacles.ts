// Finds what other programs do on this host to packets of the mesh: firewall rules that drop them, routing rules
// before ours, source translation, senders outside the pod prefixes (docs/decisions/0042). Each finding is a fault
// that names the rule and the fix. io/host/obstacles.ts reads the rules; this file decides when, and writes the
// texts.
import { cidrContains, familyOf, parseIp } from '../../core/model/cidr.ts'
import { hostOfPeerAddress } from '../../core/model/outer-address.ts'
import type { Cidr, ClusterName, Ip } from '../../core/model/values.ts'
import { outerAddresses, type Surroundings } from '../../core/host/surroundings.ts'
import type { MeshView } from '../../core/view/view.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { Obstacle } from '../../io/host/obstacles.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { FaultText, Health } from '../observe/health.ts'

// Milliseconds between two readings of the rules, each of which starts eight to ten processes.
const LOOK_MS = 30_000
// Milliseconds from a reading to the next one after a hint of the kernel. There is a pause even then, because the
// kernel gives many hints while a set of rules is loaded.
const LOOK_MS_MIN = 5_000
const LOOK_DEADLINE_MS = 10_000

const OBSTACLE_CODES = [
  'FORWARD_DROPPED',
  'PROBES_DROPPED',
  'PORT_DROPPED',
  'PORT_REDIRECTED',
  'ROUTED_ELSEWHERE',
  'SERVICES_DROPPED',
  'SOURCE_TRANSLATED',
  'SOURCE_OUTSIDE',
  'SERVICES_CLASH'
] as const

/** The host whose rules are read, and the registry in which the faults are set. */
interface ObstaclesOptions {
  /** undefined: no data plane. Then only clashes of services are reported. */
  readonly host: LinuxHost | undefined
  readonly health: Health
  /** Name of the tunnel device, for the fix. */
  readonly device: string
  /** UDP port of the probes on this host; 0: none. */
  readonly probePort: number
  /** The ports at which other members reach this host outside the tunnel: WireGuard's and those of control connections. */
  readonly outerPorts: readonly { readonly protocol: 'tcp' | 'udp'; readonly port: number }[]
}

/** The facts for one reading: they tell which packets of the mesh to judge. */
interface ObstacleFacts {
  readonly view: MeshView
  /** Clusters that no tunnel reaches (Tunnels.down). */
  readonly down: ReadonlySet<ClusterName>
  /** Whether a tunnel goes over TCP or a relay, so that UDP may be blocked; left out: none does. */
  readonly isAnyCarried?: boolean
  readonly surroundings: Surroundings
  readonly nodeAddress: Ip | undefined
}

/** The watch over other programs' rules during one session. */
export class Obstacles {
  readonly #options: ObstaclesOptions
  /** Monotonic milliseconds of the last reading. */
  #lookedMs = -Infinity
  #isHinted = false

  constructor(options: ObstaclesOptions) {
    this.#options = options
  }

  /** Called when the kernel has changed something: the next reading is due LOOK_MS_MIN after the last one. */
  hint(): void {
    this.#isHinted = true
  }

  /** Clears all faults of this file. */
  stop(): void {
    for (const code of OBSTACLE_CODES) this.#options.health.replace(code, [])
  }

  /** Called once a second; does nothing until a reading is due. */
  async lookWhenDue(facts: ObstacleFacts, signal: AbortSignal): Promise<void> {
    const ageMs = monotonicMs() - this.#lookedMs
    if (ageMs < (this.#isHinted ? LOOK_MS_MIN : LOOK_MS)) return
    await this.look(facts, signal)
  }

  /** Reads the rules now. When they cannot be read within LOOK_DEADLINE_MS, the faults stay as they are. */
  async look(facts: ObstacleFacts, signal: AbortSignal): Promise<void> {
    this.#lookedMs = monotonicMs()
    this.#isHinted = false
    const { host, health, device, probePort, outerPorts } = this.#options
    health.replace('SERVICES_CLASH', clashes(facts.view))
    if (host === undefined) return
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(LOOK_DEADLINE_MS)])
    const outer = { ...outerPoints(facts), ports: outerPorts }
    const services = servicePoints(facts)
    const question = { far: farPoints(facts), services, pod: podOf(facts), probePort, outer }
    const found = await host.obstacles(question, deadline).catch(() => undefined)
    if (found === undefined || signal.aborted) return
    // A host that only dials needs no open port, so a closed one is told only while a tunnel does not go by UDP.
    const isBlocked = facts.down.size > 0 || facts.isAnyCarried === true
    const told = found.filter((obstacle) => !isOfOuterPort(obstacle) || isBlocked)
    const faults = told.map((obstacle) => ({
      ...faultOf(obstacle, device),
      subject: subjectOf(obstacle),
      // Over TCP or a relay the packets arrive.
      ...(isOfOuterPort(obstacle) && facts.down.size === 0 ? { severity: 'warning' as const } : {})
    }))
    for (const code of OBSTACLE_CODES)
      if (code !== 'SERVICES_CLASH')
        health.replace(
          code,
          faults.filter((fault) => fault.code === code)
        )
  }
}

/**
 * Returns one address of each family of each other cluster, for which the kernel is asked how it routes. While a
 * cluster is down, its prefixes are not routed into the tunnel, so only its tunnel addresses count then.
 */
export function farPoints({
  view,
  down,
  surroundings
}: Pick<ObstacleFacts, 'view' | 'down' | 'surroundings'>): readonly { cluster: string; ip: Ip }[] {
  // Addresses that this host keeps out of the tunnel are left out: the fault PREFIX_OVERLAP reports those.
  const isKept = (ip: Ip): boolean =>
    surroundings.networks.some(({ destination }) => cidrContains(destination, ip))
  return [...view.clusters.values()]
    .filter(({ name }) => name !== view.self)
    .flatMap(({ name, agents, podPrefixes }) => {
      const told = agents.flatMap(({ agent }) => agent.tunnelAddress ?? [])
      const first = down.has(name) ? [] : podPrefixes.map(firstAddress)
      const all = [...told, ...first]
      return ([4, 6] as const).flatMap((family) => {
        const ip = all.find((each) => familyOf(each) === family && !isKept(each))
        return ip === undefined ? [] : [{ cluster: name, ip }]
      })
    })
}

/** The address of one service of each other cluster and family that is up: rules that take its packets take those of all. */
function servicePoints({
  view,
  down
}: Pick<ObstacleFacts, 'view' | 'down'>): readonly { cluster: string; ip: Ip }[] {
  return [...view.clusters.values()]
    .filter(({ name }) => name !== view.self && !down.has(name))
    .flatMap(({ name, services }) => {
      const all = services.values().flatMap(({ service }) => service.clusterIps ?? [])
      const ofFamily = Map.groupBy(all, familyOf)
      return [...ofFamily.values()].flatMap(([ip]) => (ip === undefined ? [] : [{ cluster: name, ip }]))
    })
}

/** The addresses of this host, the outer addresses of the members of other clusters, and those of their WireGuard. */
function outerPoints({ view, surroundings }: Pick<ObstacleFacts, 'view' | 'surroundings'>) {
  const others = outerAddresses(view).filter(({ cluster }) => cluster !== view.self)
  const peers = [...view.clusters.values()]
    .filter(({ name }) => name !== view.self)
    .flatMap(({ agents }) => agents.flatMap(({ agent }) => agent.wireguardAddresses))
    .flatMap((text) => {
      const ip = parseIp(hostOfPeerAddress(text))
      return ip === undefined ? [] : [{ ip, port: Number(/:(\d+)$/.exec(text)?.[1]) }]
    })
  const own = surroundings.addresses.filter((ip) => !isLoopback(ip))
  return { own, others: others.map(({ ip }) => ip), peers }
}

function isLoopback(ip: Ip): boolean {
  return ip.startsWith('127.') || ip === '::1'
}

/** The address part of a prefix: "10.1.0.0" of "10.1.0.0/16". */
function firstAddress(prefix: Cidr): Ip {
  return prefix.slice(0, prefix.indexOf('/')) as Ip
}

/**
 * Returns an address inside the pod prefixes of this cluster and the device behind which the pods of this host are.
 * undefined: this host has no such network and no node address.
 */
function podOf({ view, surroundings, nodeAddress }: ObstacleFacts) {
  const own = view.clusters.get(view.self)?.podPrefixes ?? []
  const network = surroundings.networks.find(({ destination }) =>
    own.some((prefix) => cidrContains(prefix, destination))
  )
  if (network !== undefined) return { ip: firstAddress(network.destination), device: network.device }
  return nodeAddress === undefined ? undefined : { ip: nodeAddress, device: undefined }
}

type CodedFault = FaultText & { readonly code: (typeof OBSTACLE_CODES)[number] }

function isOfOuterPort({ kind }: Obstacle): boolean {
  return kind === 'port' || kind === 'egress'
}

/** Several rules may affect one cluster, so the rule is part of the subject: each is a fault of its own. */
function subjectOf({ kind, subject, by }: Obstacle): string {
  const what = kind === 'egress' ? `${subject} out` : subject
  return subject === by ? subject : `${what}: ${by}`
}

/** Returns the fault of one finding, with the fix for its kind of rule. */
function faultOf({ kind, subject, by }: Obstacle, device: string): CodedFault {
  switch (kind) {
    case 'forward':
      return {
        code: 'FORWARD_DROPPED',
        severity: 'critical',
        message: `another packet filter of this host drops packets ${subject}: ${by}`,
        fix: `let the tunnel through there, both ways: iptables -I FORWARD -i ${device} -j ACCEPT; iptables -I FORWARD -o ${device} -j ACCEPT (with Docker in the chain DOCKER-USER; in nft, accept iifname and oifname "${device}" before the drop)`
      }
    case 'hook':
      return {
        code: 'FORWARD_DROPPED',
        severity: 'critical',
        message: `another packet filter of this host drops packets ${subject}: ${by}`,
        fix: `let the tunnel through there: accept iifname and oifname "${device}" in that chain before the drop (in iptables: -i ${device} or -o ${device} -j ACCEPT as its first rule)`
      }
    case 'input':
      return {
        code: 'PROBES_DROPPED',
        severity: 'warning',
        message: `another packet filter of this host drops the probes of other clusters (${subject} from ${device}): ${by}`,
        fix: `let them in: iptables -I INPUT -i ${device} -p udp --dport ${subject.split(' ')[1]} -j ACCEPT (ufw allow in on ${device}), else other clusters treat this cluster as down`
      }
    case 'port':
    case 'egress':
    case 'redirect':
      return outerPortFault(kind, subject, by)
    case 'service':
    case 'untracked':
      return serviceFault(kind, subject, by)
    case 'rule':
    case 'policy':
    case 'table':
      return routeFault(kind, subject, by)
    case 'translation':
      return {
        code: 'SOURCE_TRANSLATED',
        severity: 'error',
        message: `another rule of this host translates the source of packets ${subject}, so that the other side drops them: ${by}`,
        fix: `except packets out of ${device} from that rule, or give its chain a priority above 90`
      }
    case 'source':
      return {
        code: 'SOURCE_OUTSIDE',
        severity: 'warning',
        message: `packets from ${subject} went into the tunnel; that address is not in the pod prefixes of this cluster, so the other side drops them`,
        fix: 'containers behind NAT and processes bound to another address need a source inside the pod prefixes: attach them to the pod network, or look for a masquerade rule (`nft list ruleset`)'
      }
    default:
      return kind satisfies never
  }
}

/** The fault of a rule that keeps packets to services from the load balancer. */
function serviceFault(kind: 'service' | 'untracked', subject: string, by: string): CodedFault {
  switch (kind) {
    case 'service':
      return {
        code: 'SERVICES_DROPPED',
        severity: 'critical',
        message: `a packet filter of this host drops packets to services of cluster ${subject} before the load balancer sees them: ${by}`,
        fix: `delete that rule (\`nft -a list ruleset\` shows its handle), or accept the service prefixes of the mesh in that chain before it`
      }
    case 'untracked':
      return {
        code: 'SERVICES_DROPPED',
        severity: 'critical',
        message: `a rule of this host keeps packets to services of cluster ${subject} out of connection tracking, so the load balancer never sees them and connections are refused: ${by}`,
        fix: 'delete that rule, or except the service prefixes of the mesh from its notrack (`nft -a list ruleset`, `iptables-save -t raw`)'
      }
    default:
      return kind satisfies never
  }
}

/** The fault of a rule, a policy or a route of another program that takes packets to a cluster. */
function routeFault(kind: 'rule' | 'policy' | 'table', subject: string, by: string): CodedFault {
  switch (kind) {
    case 'rule':
      return {
        code: 'ROUTED_ELSEWHERE',
        severity: 'critical',
        message: `packets to cluster ${subject} do not go into the tunnel: ${by}`,
        fix: 'move that rule behind 5142 (`ip rule`), or exclude the prefixes of the mesh in that VPN; the rule of meshd has the preference 5142'
      }
    case 'policy':
      return {
        code: 'ROUTED_ELSEWHERE',
        severity: 'critical',
        message: `packets to cluster ${subject} do not go into the tunnel: the IPsec policy "${by}" of another VPN takes them`,
        fix: 'exclude the prefixes of the mesh in that VPN, or delete the policy (`ip xfrm policy` shows all of them)'
      }
    case 'table':
      return {
        code: 'ROUTED_ELSEWHERE',
        severity: 'error',
        message: `another program has put a route into the routing table of this agent, and packets to ${subject} follow it: ${by}`,
        fix: `find the program that adds it, or delete it: ip route delete ${by.replace(' in table ', ' table ')}`
      }
    default:
      return kind satisfies never
  }
}

/** The fault of a rule for packets between members outside the tunnel. `subject`: "UDP 51820". */
function outerPortFault(kind: 'port' | 'egress' | 'redirect', subject: string, by: string): CodedFault {
  const matches = `-p ${subject.toLowerCase().replace(' ', ' --dport ')}`
  const ufw = subject.split(' ').toReversed().join('/').toLowerCase()
  // A drop in a table of its own is final: an accept of iptables, which is in the table "filter", does not undo it.
  const elsewhere = / (ip6? filter|filter \(ip6?tables\))$/.test(by)
    ? undefined
    : `accept ${subject.toLowerCase().replace(' ', ' dport ')} in that chain before the drop, or delete its rule (\`nft -a list ruleset\` shows both): an accept in another table does not help`
  if (kind === 'egress')
    return {
      code: 'PORT_DROPPED',
      severity: 'error',
      message: `a tunnel does not work over UDP, and a packet filter of this host drops packets that go out to ${subject}, the WireGuard of members: ${by}`,
      fix: elsewhere ?? `let ${subject} out: iptables -I OUTPUT ${matches} -j ACCEPT (ufw allow out ${ufw})`
    }
  if (kind === 'port')
    return {
      code: 'PORT_DROPPED',
      severity: 'error',
      message: `a tunnel does not work over UDP, and a packet filter of this host drops new packets for ${subject}, the port of meshd: ${by}`,
      fix: elsewhere ?? `let ${subject} in: iptables -I INPUT ${matches} -j ACCEPT (ufw allow ${ufw})`
    }
  return {
    code: 'PORT_REDIRECTED',
    severity: 'error',
    message: `another rule of this host sends packets for ${subject}, the port of meshd, to another destination: ${by}`,
    fix: `remove that rule, or give it another port (\`nft list ruleset\`, \`iptables-save -t nat\`); else set ${subject.startsWith('UDP') ? 'wireguard-port' : 'listen'} to another port`
  }
}

/**
 * Returns a fault for each pair of services of one cluster with the same address, protocol and port. Only the first
 * service in the order of names is balanced.
 */
export function clashes(view: MeshView): readonly (FaultText & { readonly subject: string })[] {
  return [...view.clusters.values()].flatMap(({ name, services }) => {
    const first = new Map<string, string>()
    const found: (FaultText & { readonly subject: string })[] = []
    for (const key of [...services.keys()].sort()) {
      const { clusterIps = [], ports = [] } = services.get(key)?.service ?? {}
      for (const ip of clusterIps) {
        for (const { protocol, port } of ports) {
          const at = `${ip} ${protocol} ${port}`
          const holder = first.get(at)
          if (holder === undefined) first.set(at, key)
          else if (holder !== key)
            found.push({
              subject: `${name} ${key} ${port}`,
              severity: 'error',
              message: `services ${holder} and ${key} of cluster ${name} have one address and port (${ip}, ${protocol} ${port}): only ${holder} is reached`,
              fix: `give one of them another clusterIP or port in cluster ${name}`
            })
        }
      }
    }
    return found
  })
}

// The stops of a connection on its way to another cluster, each with what was found there.
import type { Names } from '../dns/names.ts'
import type { HostState } from '../host/host-state.ts'
import type { TunnelState } from '../host/tunnel-state.ts'
import type { Translation } from '../model/translation.ts'
import type { ClusterName, Origin } from '../model/values.ts'
import type { BalancedServices } from '../view/balanced.ts'
import type { MeshView } from '../view/view.ts'

/** The names of the stops. They are stable, since scripts and alerts compare them. */
type StopName =
  /** What the DNS of the mesh answers for the name. */
  | 'name'
  /** Whether the address of the client may use the mesh. */
  | 'source'
  /** Rules, routes and tools of this host that stop packets, by the faults that the agent has found. */
  | 'host'
  /** The cluster to which the address belongs. */
  | 'prefix'
  /** The service that has the address; for a pod address, the service whose endpoint it is. */
  | 'service'
  | 'port'
  /** The endpoints that get traffic: the ready ones, or those that still serve while they terminate (KEP-1669). */
  | 'endpoints'
  /** The virtual server of this host. */
  | 'balancer'
  /** The gateway that carries the packets, and the state of the tunnel to it. */
  | 'tunnel'
  /** The route that this agent has set. */
  | 'route'
  /** The route that the kernel takes, by the rules of all programs. */
  | 'kernel'
  /** A TCP connection from this host. */
  | 'connection'

/** What was found at one stop. */
export interface Stop {
  readonly stop: StopName
  /** `ok`: a connection passes. `note`: it passes, and a person should know more. `fault`: it ends here. */
  readonly state: 'ok' | 'note' | 'fault'
  /** A sentence for people, without a full stop at its end. */
  readonly text: string
  /** What the operator does about a fault; absent where the stop is no fault, or another stop has the cause. */
  readonly fix?: string
}

/** The facts from which the stops follow, as this agent has them. */
export interface WhyFacts {
  /** With the real addresses of the own cluster. */
  readonly view: MeshView
  /** Between these and the addresses by which other clusters know the own one. */
  readonly translation: Pick<Translation, 'toReal' | 'toVirtual'>
  readonly names: Pick<Names, 'answer'>
  /** Clusters to which no tunnel works: connections to them are refused at once. */
  readonly withdrawn: ReadonlySet<ClusterName>
  /** Services that a policy balances over clusters; left out: there are none. */
  readonly balanced?: BalancedServices
  /** The tunnel to a gateway; undefined: not seen yet. */
  readonly tunnel: (origin: Origin) => (TunnelState & { readonly rttMs?: number | undefined }) | undefined
  /** By which path the tunnel goes, and why by no better one; left out, or undefined: not known. */
  readonly way?: (origin: Origin) => { readonly path: string; readonly reason?: string } | undefined
  /** The host as the latest pass left it, or why nothing is programmed on this host. */
  readonly host: ProgrammedFacts | { readonly off: string }
  /** This host also balances the services of its own cluster, for a site without kube-proxy. */
  readonly balancesOwn: boolean
  /** The faults of this agent that stand now. */
  readonly faults: readonly KnownFault[]
}

/** What is programmed on this host. */
export interface ProgrammedFacts {
  readonly have: HostState
  /** Why the host lacks a prefix or a virtual server ("10.102.0.10 TCP 80"), as a sentence. */
  readonly whyMissing: (object: string) => string
  /** The own network that takes a part of a prefix, as text; undefined: none. */
  readonly overlap: (prefix: string) => string | undefined
  /** The kind of load balancer: "nftables" or "ipvs". */
  readonly loadBalancer: string
}

/** A fault of the registry of health, with what matters here. */
export interface KnownFault {
  readonly code: string
  readonly subject: string
  readonly severity: 'critical' | 'error' | 'warning'
  readonly message: string
  readonly fix: string
}

/** A stop that a connection passes. */
export function passes(stop: StopName, text: string): Stop {
  return { stop, state: 'ok', text }
}

/** A stop that a connection passes, of which a person should know more. */
export function note(stop: StopName, text: string): Stop {
  return { stop, state: 'note', text }
}

/** A stop at which a connection ends. */
export function fault(stop: StopName, text: string, fix?: string): Stop {
  return { stop, state: 'fault', text, ...(fix === undefined ? {} : { fix }) }
}

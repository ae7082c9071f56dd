// Every setting of meshd in one table: key, schema, default, help. main.ts makes the flags and the help of meshd from
// it, and `meshctl install` checks the settings that it writes with it (cli/kube/install-checks.ts). The names of flag,
// environment variable and file key follow from the key: `dns-listen` is --dns-listen, RHIZOME_DNS_LISTEN and
// `dns-listen:` in the file. The value of the first of these is taken: flag, environment, file, default. An unknown key
// in the file is an error, because a mistyped security setting must not be ignored (DESIGN §4).
import { hostname } from 'node:os'
import type { z } from 'zod'
import { KUBERNETES_DOMAIN } from '../../core/model/zones.ts'
import { autoHelp, LOAD_BALANCERS } from '../../io/host/load-balancer/registry.ts'
import { listenAddress, listenMultiaddr, listenOr } from './listen-address.ts'
import { outerAddress, outerMultiaddr } from './outer-address.ts'
import { portClash } from './port-clash.ts'
import { NODE_PREFIXES_MAX, RELAY_RATE_MAX } from '../../core/wire/value-codec.ts'
import { FIX, fixOf } from './refused.ts'
import { SettingsError, readSettingsFile, shown } from './settings-file.ts'
import {
  choice,
  balancePrefix,
  clientPrefix,
  device,
  dnsLabel,
  domain,
  integer,
  list,
  listOr,
  nodeName,
  nodeNameOf,
  optional,
  orOff,
  ownAddress,
  path,
  seconds,
  selector,
  serverAddress,
  socketPath,
  text,
  zoneName
} from './setting-values.ts'

/** TCP port of control connections. */
export const CONTROL_PORT = 7946
const DNS_PORT = 53
/**
 * TCP port of the feed for CoreDNS. It is below 1024, so that only root can take it while the agent is stopped
 * (docs/decisions/0047).
 */
export const FEED_PORT = 948
const WEBHOOK_PORT = 7950
const HTTP_PORT = 9465
// The same limit as that of an agent record: MULTIADDRS_MAX and PEER_ADDRESSES_MAX in src/core/wire/value-codec.ts.
const ADDRESSES_MAX = 16
// Larger than any use: pods ask a few addresses of a host, and resolv.conf(5) has at most three servers.
const LISTENS_MAX = 16
// Larger than any use: networks of clients, such as one per rack.
const DNS_ALLOW_MAX = 256
// A list that a person writes is far shorter; SIG Scalability tests clusters of Kubernetes with up to 10,000
// namespaces.
const NAMESPACES_MAX = 1000
// As many as a request of `meshctl init` may name (src/api/requests.ts).
const PREFIXES_MAX = 64
// As many as a mesh is tested with.
const CLUSTERS_MAX = 1000
const port = integer({ min: 1, max: 65_535 })

/**
 * `initial` is parsed by `schema` like any other value; the result is the default. `help` is the text of `meshd --help`
 * and of error messages.
 */
interface Row {
  readonly schema: z.ZodType
  readonly initial: unknown
  readonly help: string
}

/** The table. A new setting is a new row (docs/adding.md); `meshd --help` lists the rows in this order. */
export const SETTINGS = {
  'state-dir': row(
    text(path),
    '/var/lib/rhizome',
    'folder of keys, certificates and the replica (mode 0700)'
  ),
  socket: row(text(socketPath), '/run/rhizome/meshd.sock', 'unix socket of the admin API (mode 0600)'),
  manifests: row(text(path), '/etc/rhizome/manifests', 'folder of Service and EndpointSlice YAML, watched'),
  source: row(
    choice(['auto', 'folder', 'kubernetes']),
    'auto',
    'where services come from; auto = the Kubernetes API in a pod or with a kubeconfig, else the folder'
  ),
  kubeconfig: row(optional(path), '', 'kubeconfig of the Kubernetes API; the pod’s own account when empty'),
  namespace: row(
    optional(dnsLabel),
    '',
    'namespace of the Lease and of the cluster’s key; the account’s own when empty'
  ),
  export: row(
    choice(['all', 'marked']),
    'all',
    'which Services are exported; marked = those with a ServiceExport or the annotation rhizome.io/export: "true"'
  ),
  'export-namespaces': row(
    list(dnsLabel, NAMESPACES_MAX),
    [],
    'export only from these namespaces; from all when empty'
  ),
  'export-except-namespaces': row(list(dnsLabel, NAMESPACES_MAX), [], 'do not export from these namespaces'),
  mcs: row(choice(['on', 'imports', 'off']), 'on', 'Multi-Cluster Services API; imports: no EndpointSlices'),
  'export-selector': row(optional(selector), '', 'export only Services with these labels'),
  reach: row(
    choice(['pods', 'services']),
    'pods',
    'what other clusters may reach here: all pods, or only ready endpoints of exported Services, by address, protocol and port'
  ),
  'reach-clusters': row(
    list(dnsLabel, CLUSTERS_MAX),
    [],
    'names of the clusters that may open connections to this one; all when empty'
  ),
  role: row(
    choice(['auto', 'gateway', 'node']),
    'auto',
    'gateway = tunnels to the other clusters; node = reaches them through the gateways of its own cluster; auto = gateway'
  ),
  'node-prefixes': row(
    list(clientPrefix, NODE_PREFIXES_MAX),
    [],
    'pod prefixes of this host alone, inside those of its cluster; from spec.podCIDRs of its Node when empty'
  ),
  'token-file': row(optional(path), '', 'join with the token in this file, while this agent is in no mesh'),
  init: row(
    optional(dnsLabel),
    '',
    'found a mesh with this name of the cluster, once, where the Secret of its key is empty and no token is given; Kubernetes only'
  ),
  'init-pod-cidrs': row(
    list(clientPrefix, PREFIXES_MAX),
    [],
    'pod prefixes of the cluster that `init` names; found in the cluster when empty'
  ),
  'init-service-cidrs': row(
    list(clientPrefix, PREFIXES_MAX),
    [],
    'service prefixes of the cluster that `init` names; found in the cluster when empty'
  ),
  listen: row(
    list((item) => listenMultiaddr(item, CONTROL_PORT), LISTENS_MAX),
    [`/ip4/0.0.0.0/tcp/${CONTROL_PORT}`, `/ip6/::/tcp/${CONTROL_PORT}`],
    'multiaddrs for control connections; /ip6/:: counts where the kernel has IPv6'
  ),
  announce: row(
    list(outerMultiaddr, ADDRESSES_MAX),
    [],
    'multiaddrs or host:port that other agents dial; names are resolved again every 30 s; found from the host addresses when empty'
  ),
  'wireguard-port': row(port, 51_820, 'UDP port of the tunnel'),
  'wireguard-address': row(
    list(outerAddress, ADDRESSES_MAX),
    [],
    'host:port to which other gateways send the tunnel; names are resolved again every 30 s; without a port the wireguard-port; found from the host addresses when empty'
  ),
  'tcp-path-rate': row(
    integer({ min: 0, max: RELAY_RATE_MAX }),
    100,
    'Mbit/s of the tunnel over TCP with each gateway whose UDP gets no answer; 0 = never over TCP'
  ),
  'relay-rate': row(
    integer({ min: 0, max: RELAY_RATE_MAX }),
    0,
    'Mbit/s, in all, that this gateway relays for others that reach each other neither by UDP nor TCP; 0 = none'
  ),
  device: row(text(device), 'rhizome0', 'name of the tunnel interface'),
  mtu: row(
    integer({ min: 0, max: 9000 }).refine((mtu) => mtu === 0 || mtu >= 1280, {
      message: 'it is neither 0 nor from 1280 to 9000',
      params: { [FIX]: 'use 0 (found from the path) or 1280 to 9000' }
    }),
    0,
    'MTU of the tunnel; 0 = path MTU less 80'
  ),
  dataplane: row(
    choice(['auto', 'on', 'off']),
    'auto',
    'program the kernel of this host; auto = if meshd is root and TUN and the tools exist'
  ),
  'load-balancer': row(
    choice(['auto', ...LOAD_BALANCERS.map(({ name }) => name)]),
    'auto',
    `layer-4 load balancer; ${autoHelp()}`
  ),
  scheduler: row(choice(['rr', 'wrr', 'mh', 'lc']), 'rr', 'how IPVS chooses a backend'),
  'balance-local': row(
    choice(['auto', 'on', 'off']),
    'auto',
    'balance the own cluster’s service addresses too; auto = for a folder, since in Kubernetes kube-proxy does'
  ),
  'balance-cidr': row(
    text(balancePrefix),
    '240.240.0.0/16',
    'unused prefix, seen by this cluster’s hosts and pods only, for the addresses of services with rhizome.io/balance or a ServiceExport'
  ),
  'drain-seconds': row(
    seconds({ max: 3600, whole: false }),
    30,
    'how long flows to a removed backend may continue'
  ),
  'hand-over-on-stop': row(
    choice(['auto', 'always', 'never']),
    'auto',
    'before a stop, let the other gateways of this cluster take over, for at most 10 s; auto = unless systemd restarts the unit'
  ),
  'node-name': row(
    text(nodeName),
    nodeNameOf(hostname()),
    'name of this host in `meshctl peers`, a DNS name in lower case'
  ),
  zone: row(
    optional(zoneName),
    '',
    'zone of this host, for Services with trafficDistribution; from topology.kubernetes.io/zone of its Node when empty'
  ),
  'node-address': row(
    text(ownAddress),
    '',
    'own address inside the pod prefixes; found on the interfaces when empty'
  ),
  'probe-port': row(
    integer({ min: 0, max: 65_535 }),
    7947,
    'UDP port of the health probe inside the tunnel; 0 = no probe'
  ),
  'keepalive-seconds': row(seconds({ max: 600, whole: true }), 25, 'WireGuard persistent keepalive'),
  'dns-listen': row(
    orOff(listOr('off', (item) => (item === 'auto' ? item : listenAddress(item, DNS_PORT)), LISTENS_MAX)),
    'auto',
    'address:port of the DNS responder; auto = <node-address>:53, else (or beside a CoreDNS of our own) 127.0.0.1:5353; off = none'
  ),
  'dns-upstream': row(
    listOr('none', (item) => (item.startsWith('/') ? item : serverAddress(item, DNS_PORT)), LISTENS_MAX),
    [],
    'servers to which names outside the mesh are forwarded; from /etc/resolv.conf when empty; none = refuse these names'
  ),
  'dns-allow': row(
    list(clientPrefix, DNS_ALLOW_MAX),
    [],
    'prefixes of more clients that the DNS responder answers, as in 192.0.2.0/24; it always answers this host and the pods and nodes of this cluster'
  ),
  'dns-outlive-seconds': row(
    seconds({ max: 86_400, whole: true }),
    300,
    'how long the DNS responder, a process of its own, answers without the agent, while that restarts or after it crashed'
  ),
  'feed-listen': row(
    orOff(text(listenOr(['auto', 'off'], FEED_PORT))),
    'auto',
    'address:port of the list/watch API for CoreDNS; auto = 127.0.0.1:948 with Kubernetes or a corefile, else off; off = none'
  ),
  corefile: row(
    optional(path),
    '',
    'write the Corefile of a CoreDNS of our own to this path and keep it up to date; none when empty'
  ),
  'corefile-listen': row(
    text(listenOr(['auto'], DNS_PORT)),
    'auto',
    'address:port of that CoreDNS; auto = port 53 of every address'
  ),
  'coredns-pid-file': row(
    optional(path),
    '',
    'pid file of the CoreDNS that gets a signal after a change; when empty, its reload plugin reads the Corefile every 2 s'
  ),
  'cluster-dns': row(
    choice(['off', 'auto', 'openshift', 'coredns', 'coredns-custom']),
    'off',
    'put the zones of the mesh into the Kubernetes cluster’s own DNS; auto = what the cluster has'
  ),
  'cluster-dns-namespace': row(text(dnsLabel), 'kube-system', 'namespace of the cluster’s CoreDNS'),
  'cluster-domain': row(text(domain), KUBERNETES_DOMAIN, 'domain of the cluster’s own services'),
  'webhook-listen': row(
    orOff(text(listenOr(['off'], WEBHOOK_PORT))),
    'off',
    'address:port of the admission webhook that sets dnsConfig; off = none'
  ),
  'sysctl-root': row(
    text(path),
    '/proc/sys',
    'folder of the sysctls; another path where /proc/sys is read-only'
  ),
  'http-listen': row(
    orOff(text(listenOr(['off'], HTTP_PORT))),
    '127.0.0.1:9465',
    'address:port of /healthz, /readyz and /metrics; off = none'
  ),
  'log-level': row(choice(['debug', 'info', 'warn', 'error']), 'info', 'least severe event to log'),
  'log-format': row(
    choice(['auto', 'json', 'text']),
    'auto',
    'json: one object per line; text: for people; auto: text on a terminal, else json'
  )
} as const satisfies Record<string, Row>

type Key = keyof typeof SETTINGS
/** All settings after parsing, by key. No setting is missing: one that is not given has its default. */
export type Settings = { readonly [K in Key]: z.output<(typeof SETTINGS)[K]['schema']> }

/** The sources of the values. A value of undefined counts as not given; an empty text counts as given. */
interface SettingsSources {
  /** The parsed command line, by key. */
  readonly flags: Readonly<Record<string, unknown>>
  readonly env: Readonly<Record<string, string | undefined>>
  /**
   * Path of a YAML file that maps keys to values; undefined: no file. If the file is named but cannot be read, that is
   * an error.
   */
  readonly file: string | undefined
}

/**
 * Reads the file, which blocks, and parses all settings. Called once at start, before the log exists.
 * Errors: SettingsError, whose message has the key, the source of the value, the reason and the help of the setting,
 * and whose fix says what to write.
 */
export function resolveSettings(sources: SettingsSources): Settings {
  const file = sources.file === undefined ? {} : readSettingsFile(sources.file, Object.keys(SETTINGS))
  const result: Record<string, unknown> = {}
  for (const [key, { schema, initial, help }] of Object.entries<Row>(SETTINGS)) {
    const candidates: readonly [string, unknown][] = [
      [`flag --${key}`, sources.flags[key]],
      [`environment ${envOf(key)}`, sources.env[envOf(key)]],
      [`key ${key} of ${sources.file}`, file[key]]
    ]
    const [origin, value] = candidates.find(([, value]) => value !== undefined) ?? ['default', initial]
    const parsed = schema.safeParse(value)
    if (!parsed.success) {
      const reason = parsed.error.issues.map((issue) => issue.message).join('; ')
      throw new SettingsError(
        `setting ${key} (${origin}): ${shown(value)} is not valid: ${reason}. The setting is: ${help}`,
        {
          fix:
            fixOf(parsed.error) ??
            `give ${key} a value that fits the description above, or leave the setting out`
        }
      )
    }
    result[key] = parsed.data
  }
  const settings = result as Settings
  const clash = portClash(settings)
  if (clash !== undefined) throw new SettingsError(clash.message, clash)
  return settings
}

/** The environment variable of a setting: dns-listen has RHIZOME_DNS_LISTEN. */
export function envOf(key: string): string {
  return `RHIZOME_${key.toUpperCase().replaceAll('-', '_')}`
}

/** Gives `initial` one type for all rows, while `schema` keeps its own, from which the type Settings is made. */
function row<S extends z.ZodType>(
  schema: S,
  initial: string | number | readonly string[],
  help: string
): { schema: S; initial: string | number | readonly string[]; help: string } {
  return { schema, initial, help }
}

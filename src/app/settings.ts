// Every setting of meshd in one table: key, default, help. Flag, environment variable and file key follow from the key:
// `dns-listen` is --dns-listen, RHIZOME_DNS_LISTEN and `dns-listen:` in the file. Later sources win: default, file, environment,
// flag. An unknown key refuses to start: a mistyped security setting must not be ignored (DESIGN §4).
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { parse as parseYaml } from 'yaml'
import { z } from 'zod'

const port = z.coerce.number().int().min(0).max(65535)
const list = z.preprocess(
  (value) =>
    typeof value === 'string'
      ? value
          .split(',')
          .map((part) => part.trim())
          .filter((part) => part !== '')
      : value,
  z.array(z.string())
)

interface Row {
  readonly schema: z.ZodType
  readonly initial: unknown
  readonly help: string
}

export const SETTINGS = {
  'state-dir': row(
    z.string().min(1),
    '/var/lib/rhizome',
    'folder of keys, certificates and the replica (mode 0700)'
  ),
  socket: row(z.string().min(1), '/run/rhizome/meshd.sock', 'unix socket of the admin API (mode 0600)'),
  manifests: row(
    z.string().min(1),
    '/etc/rhizome/manifests',
    'folder of Service and EndpointSlice YAML, watched'
  ),
  source: row(
    z.enum(['auto', 'folder', 'kubernetes']),
    'auto',
    'where services come from; auto = the Kubernetes API in a pod or with a kubeconfig, else the folder'
  ),
  kubeconfig: row(z.string(), '', 'kubeconfig of the Kubernetes API; the pod’s own account when empty'),
  namespace: row(
    z.string(),
    '',
    'namespace of the Lease and of the cluster’s key; the account’s own when empty'
  ),
  export: row(
    z.enum(['all', 'marked']),
    'all',
    'which Services of Kubernetes leave the cluster; marked = those annotated rhizome.io/export: "true"'
  ),
  'export-namespaces': row(list, [], 'only from these namespaces; all when empty'),
  'export-except-namespaces': row(list, [], 'not from these namespaces'),
  'export-selector': row(z.string(), '', 'only Services with these labels'),
  'token-file': row(
    z.string(),
    '',
    'while in no mesh, join with the token in this file, until a member accepts it'
  ),
  listen: row(list, ['/ip4/0.0.0.0/tcp/7946'], 'multiaddrs for control connections'),
  announce: row(list, [], 'multiaddrs that others dial; found from the host addresses when empty'),
  'wireguard-port': row(port, 51820, 'UDP port of the tunnel'),
  'wireguard-address': row(
    list,
    [],
    'ip:port that others send the tunnel to; found from the host addresses when empty'
  ),
  device: row(
    z
      .string()
      .regex(/^[a-z][a-z0-9._-]{0,14}$/, 'an interface name: at most 15 of a-z 0-9 . _ -, a letter first'),
    'rhizome0',
    'name of the tunnel interface'
  ),
  mtu: row(
    z.coerce
      .number()
      .int()
      .refine((mtu) => mtu === 0 || (mtu >= 1280 && mtu <= 9000), '0 (found from the path) or 1280 to 9000'),
    0,
    'MTU of the tunnel; 0 = path MTU less 80'
  ),
  dataplane: row(
    z.enum(['auto', 'on', 'off']),
    'auto',
    'program the host; auto = when root, TUN and the tools are there'
  ),
  'load-balancer': row(
    z.enum(['auto', 'nftables', 'ipvs']),
    'auto',
    'layer-4 load balancer; auto = what the kernel can do'
  ),
  scheduler: row(z.enum(['rr', 'wrr', 'mh', 'lc']), 'rr', 'how IPVS picks a backend'),
  'balance-local': row(
    z.enum(['auto', 'on', 'off']),
    'auto',
    'balance the own cluster’s service addresses too; auto = for a folder, since in Kubernetes kube-proxy does'
  ),
  'drain-seconds': row(
    z.coerce.number().min(0).max(3600),
    30,
    'how long flows to a removed backend may finish'
  ),
  'node-name': row(z.string().min(1).max(253), hostname(), 'name of this host in `meshctl peers`'),
  'node-address': row(
    z.string(),
    '',
    'own address inside the pod prefixes; found on the interfaces when empty'
  ),
  'probe-port': row(port, 7947, 'UDP port of the health probe inside the tunnel; 0 = no probe'),
  'keepalive-seconds': row(z.coerce.number().int().min(0).max(600), 25, 'WireGuard persistent keepalive'),
  'dns-listen': row(
    list,
    ['auto'],
    'address:port of the DNS responder; auto = <node-address>:53, else (or beside a CoreDNS of our own) 127.0.0.1:5353; off = none'
  ),
  'dns-upstream': row(
    list,
    [],
    'servers for all other names; from /etc/resolv.conf when empty; none = refuse them'
  ),
  'feed-listen': row(
    z.string(),
    'auto',
    'address:port of the list/watch API for CoreDNS; auto = 127.0.0.1:7948 with Kubernetes or a corefile, else off; off = none'
  ),
  corefile: row(
    z.string(),
    '',
    'write the Corefile of a CoreDNS of our own to this path and keep it up to date; none when empty'
  ),
  'corefile-listen': row(z.string(), 'auto', 'address:port of that CoreDNS; auto = port 53 of every address'),
  'coredns-pid-file': row(
    z.string(),
    '',
    'signal the CoreDNS of this pid file after a change; when empty, its reload plugin looks every 2 s'
  ),
  'cluster-dns': row(
    z.enum(['off', 'auto', 'openshift', 'coredns', 'coredns-custom']),
    'off',
    'put the zones of the mesh into the Kubernetes cluster’s own DNS; auto = what the cluster has'
  ),
  'cluster-dns-namespace': row(z.string().min(1), 'kube-system', 'namespace of the cluster’s CoreDNS'),
  'cluster-domain': row(
    z.string().min(1),
    'cluster.local',
    'domain of the cluster’s own services, for the webhook'
  ),
  'webhook-listen': row(
    z.string(),
    'off',
    'address:port of the admission webhook that sets dnsConfig; off = none'
  ),
  'sysctl-root': row(
    z.string().min(1),
    '/proc/sys',
    'where sysctls are written; another path where /proc/sys is read-only'
  ),
  'http-listen': row(
    z.string(),
    '127.0.0.1:9465',
    'address:port of /healthz, /readyz and /metrics; off = none'
  ),
  'log-level': row(z.enum(['debug', 'info', 'warn', 'error']), 'info', 'least severe event to log'),
  'log-format': row(
    z.enum(['auto', 'json', 'text']),
    'auto',
    'json: one object a line; text: for people; auto: text on a terminal, else json'
  )
} as const satisfies Record<string, Row>

type Key = keyof typeof SETTINGS
export type Settings = { readonly [K in Key]: z.output<(typeof SETTINGS)[K]['schema']> }

export class SettingsError extends Error {
  override readonly name = 'SettingsError'
  readonly code = 'BAD_SETTING'
}

export interface SettingsSources {
  /** Parsed command line, by key. */
  readonly flags: Readonly<Record<string, unknown>>
  readonly env: Readonly<Record<string, string | undefined>>
  /** A YAML mapping of keys; undefined = no file. A named file that cannot be read is an error. */
  readonly file: string | undefined
}

/** Errors: SettingsError that names the key, where its value came from and what it must be. */
export function resolveSettings(sources: SettingsSources): Settings {
  const file = sources.file === undefined ? {} : readFile(sources.file)
  const result: Record<string, unknown> = {}
  for (const [key, { schema, initial }] of Object.entries<Row>(SETTINGS)) {
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
        `setting ${key} (${origin}): ${JSON.stringify(value)} will not do: ${reason}. It is: ${SETTINGS[key as Key].help}`
      )
    }
    result[key] = parsed.data
  }
  return result as Settings
}

export function envOf(key: string): string {
  return `RHIZOME_${key.toUpperCase().replaceAll('-', '_')}`
}

function readFile(path: string): Record<string, unknown> {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new SettingsError(`settings file ${path} cannot be read: ${(error as Error).message}`, {
      cause: error
    })
  }
  let parsed: unknown
  try {
    parsed = parseYaml(text) ?? {}
  } catch (error) {
    throw new SettingsError(`settings file ${path} is not YAML: ${(error as Error).message}`, {
      cause: error
    })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new SettingsError(
      `settings file ${path}: expected a mapping of settings, like "wireguard-port: 51820"`
    )
  }
  for (const key of Object.keys(parsed)) {
    if (!Object.hasOwn(SETTINGS, key)) {
      throw new SettingsError(
        `settings file ${path}: unknown setting ${JSON.stringify(key)}; \`meshd --help\` lists them all`
      )
    }
  }
  return parsed as Record<string, unknown>
}

function row<S extends z.ZodType>(
  schema: S,
  initial: z.input<S>,
  help: string
): { schema: S; initial: z.input<S>; help: string } {
  return { schema, initial, help }
}

// The objects of an installation follow the settings that say where the agent listens: the ports of its container, the
// ports that the Services lead to, and the probes. Otherwise a changed setting would leave a Service or a probe that asks
// where no agent listens. The chart has the same rule (rhizome.portOf in _helpers.tpl); test/lab/deploy.test.ts compares.
import { isFields, type Fields } from '../model/field-check.ts'
import { fieldsAt } from './kube-api.ts'

const PROBES = ['startupProbe', 'livenessProbe', 'readinessProbe'] as const

/**
 * The probes of the agent for another `http-listen`, as the chart would write them; without probes when it is off.
 * `listen` undefined: the probes of the manifests stay.
 */
export function probesOf(container: Fields, listen: string | undefined): Readonly<Record<string, unknown>> {
  if (listen === undefined) return {}
  if (listen === 'off') return Object.fromEntries(PROBES.map((name) => [name, undefined]))
  const { host: found, port } = listenOf(listen, 9465)
  const host = found === 'localhost' ? '127.0.0.1' : found
  // Where the agent listens on all addresses, the kubelet asks the pod, which has the address of the node.
  const isAny = /^[0:.]*$/.test(host)
  return Object.fromEntries(
    PROBES.map((name) => {
      const probe = fieldsAt(container, name)
      const { path } = fieldsAt(probe, 'httpGet')
      return [name, { ...probe, httpGet: { ...(isAny ? {} : { host }), path, port } }]
    })
  )
}

/**
 * The settings that say where the agent listens, by the names of their ports in the objects. `own`: the port that the
 * agent takes for an address without one.
 */
const LISTENS: Readonly<Record<string, { readonly setting: string; readonly own: number }>> = {
  control: { setting: 'listen', own: 7946 },
  wireguard: { setting: 'wireguard-port', own: 51_820 },
  dns: { setting: 'dns-listen', own: 53 },
  'dns-tcp': { setting: 'dns-listen', own: 53 },
  webhook: { setting: 'webhook-listen', own: 7950 }
}

/**
 * A list of ports of a container or a Service with the ports of the settings in the fields `fields`. A setting that is
 * not given, or is a word such as "off", changes nothing.
 */
export function withPorts(
  ports: unknown,
  fields: readonly string[],
  settings: Readonly<Record<string, string>>
): unknown {
  if (!Array.isArray(ports)) return ports
  return ports.filter(isFields).map((entry) => {
    const { setting = '', own } = LISTENS[String(entry['name'])] ?? {}
    const [text = ''] = (settings[setting] ?? '').split(',').map((item) => item.trim())
    if (own === undefined || ['', 'off', 'auto'].includes(text)) return entry
    const { port } = listenOf(text, own)
    return { ...entry, ...Object.fromEntries(fields.filter((key) => key in entry).map((key) => [key, port])) }
  })
}

/** An address with or without a port, a multiaddr of TCP, or a port alone. The setting's parser has checked the text. */
function listenOf(text: string, own: number): { readonly host: string; readonly port: number } {
  const [, bracketed, plain = '', port] = /^(?:\[([^\]]*)\]:|([^:[]*):|.*\/tcp\/|)(\d+)$/.exec(text) ?? []
  if (port === undefined) return { host: text.replace(/^\[(.*)\]$/, '$1'), port: own }
  return { host: bracketed ?? plain, port: Number(port) }
}

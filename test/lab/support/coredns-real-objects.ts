// What the real API server holds while CoreDNS's own plugin and our responder are compared: the services of the shop example, and
// every kind of service that DNS treats in its own way.
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'

import { parseCidr } from '../../../src/core/model/cidr.ts'
import type { Cidr } from '../../../src/core/model/values.ts'

export interface KubeObject {
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace: string
    readonly labels?: Readonly<Record<string, string>>
  }
  readonly [field: string]: unknown
}

const SHOP = 'deploy/examples/shop/west'

/** The prefixes of the shop's cluster `west`, with IPv6 beside them. */
export const POD_PREFIXES = ['10.1.0.0/16', 'fd00:1::/32'].map(cidr)
export const SERVICE_PREFIXES = ['10.101.0.0/16', 'fd00:101::/112'].map(cidr)

/** Namespaces that hold services, and one that does not. */
export const NAMESPACES = ['shop', 'platform', 'edge', 'vacant'] as const

export async function shopObjects(): Promise<readonly KubeObject[]> {
  const files = (await readdir(SHOP, { recursive: true })).filter((file) => file.endsWith('.yaml')).sort()
  const objects = await Promise.all(
    files.map(async (file) => {
      const documents = parseAllDocuments(await readFile(join(SHOP, file), 'utf8'))
      return documents.flatMap((document) => {
        const object: { readonly items?: readonly KubeObject[] } & KubeObject = document.toJS()
        return object.items ?? [object]
      })
    })
  )
  return objects.flat().filter(({ kind }) => kind === 'Service' || kind === 'EndpointSlice')
}

export function edgeObjects(): readonly KubeObject[] {
  const http = { name: 'http', port: 80 }
  const pg = { name: 'pg', port: 5432 }
  return [
    service('web', { ports: [http] }),
    slice('web', { ports: [http], endpoints: [pod('10.1.9.1'), pod('10.1.9.2', { hostname: 'web-1' })] }),
    service('multi', {
      ports: [
        { name: 'dns', port: 53, protocol: 'UDP' },
        { name: 'dns-tcp', port: 53 },
        { name: 'assoc', port: 9, protocol: 'SCTP' }
      ]
    }),
    slice('multi', {
      ports: [
        { name: 'dns', port: 1053, protocol: 'UDP' },
        { name: 'dns-tcp', port: 1053 }
      ],
      endpoints: [pod('10.1.9.3')]
    }),
    service('unnamed', { ports: [{ port: 8080 }] }),
    slice('unnamed', { ports: [{ port: 8080 }], endpoints: [pod('10.1.9.4')] }),
    service('empty', { ports: [http] }),
    service('node', { type: 'NodePort', ports: [http] }),
    service('balanced', { type: 'LoadBalancer', ports: [http] }),
    service('dual', { ports: [http], ipFamilyPolicy: 'RequireDualStack' }),
    service('six', { ports: [http], ipFamilies: ['IPv6'] }),

    service('db', { clusterIP: 'None', ports: [pg] }),
    slice('db', {
      ports: [pg],
      endpoints: [
        pod('10.1.9.11', { hostname: 'db-0' }),
        pod('10.1.9.12', { hostname: 'twin', nodeName: 'node-1' }),
        pod('10.1.9.13', { hostname: 'db-9', conditions: { ready: false } }),
        pod('10.1.9.14', {
          hostname: 'db-8',
          conditions: { ready: false, serving: true, terminating: true }
        }),
        // Unknown counts as ready.
        pod('10.1.9.15', { conditions: {} })
      ]
    }),
    slice('db', { ports: [pg], endpoints: [pod('10.1.9.16', { hostname: 'twin' })] }, 'more'),
    slice('db', { ports: [pg], endpoints: [pod('fd00:1::14'), pod('fd00:1::')] }, 'six'),
    // The same pods again, under a second service.
    service('db-all', { clusterIP: 'None' }),
    slice('db-all', { endpoints: [pod('10.1.9.11', { hostname: 'db-0' }), pod('10.1.9.15')] }),
    service('cold', { clusterIP: 'None', ports: [http] }),
    slice('cold', { ports: [http], endpoints: [pod('10.1.9.21', { conditions: { ready: false } })] }),
    service('hollow', { clusterIP: 'None', ports: [http] }),
    // As the EndpointSlice controller writes it: ready, whatever the pod says.
    service('eager', { clusterIP: 'None', ports: [http], publishNotReadyAddresses: true }),
    slice('eager', { ports: [http], endpoints: [pod('10.1.9.22', { conditions: { ready: true } })] }),
    service('early', { clusterIP: 'None', ports: [http], publishNotReadyAddresses: true }),
    slice('early', { ports: [http], endpoints: [pod('10.1.9.23', { conditions: { ready: false } })] }),
    service('large', { clusterIP: 'None', ports: [http] }),
    slice('large', {
      ports: [http, pg],
      endpoints: Array.from({ length: 70 }, (_, index) => pod(`10.1.8.${index}`))
    }),
    // Of no service: its name was deleted a moment ago.
    slice('gone', { ports: [http], endpoints: [pod('10.1.9.31')] }),

    alias('outside', 'pay.example.com'),
    alias('dotted', 'pay.example.com.'),
    alias('literal', '192.0.2.1'),
    alias('inside', 'web.edge.svc.cluster.west'),
    alias('chain', 'inside.edge.svc.cluster.west'),
    alias('headless', 'db.edge.svc.cluster.west'),
    alias('six-only', 'six.edge.svc.cluster.west'),
    alias('dangling', 'nosuch.edge.svc.cluster.west'),
    alias('port', 'http.tcp.web.edge.svc.cluster.west'),
    alias('self', 'self.edge.svc.cluster.west'),
    alias('ping', 'pong.edge.svc.cluster.west'),
    alias('pong', 'ping.edge.svc.cluster.west'),
    ...Array.from({ length: 13 }, (_, i) =>
      alias(`n${i}`, i === 12 ? 'web.edge.svc.cluster.west' : `n${i + 1}.edge.svc.cluster.west`)
    )
  ]
}

function service(name: string, spec: object): KubeObject {
  return { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'edge' }, spec }
}

function alias(name: string, externalName: string): KubeObject {
  return service(name, { type: 'ExternalName', externalName })
}

interface Slice {
  readonly endpoints: readonly Pod[]
  readonly ports?: readonly object[]
}

function slice(of: string, parts: Slice, suffix = 'abcde'): KubeObject {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${of}-${suffix}`, namespace: 'edge', labels: { 'kubernetes.io/service-name': of } },
    addressType: parts.endpoints[0]?.addresses[0]?.includes(':') === true ? 'IPv6' : 'IPv4',
    ...parts
  }
}

interface Pod {
  readonly addresses: readonly string[]
}

function pod(address: string, more: object = {}): Pod {
  return { addresses: [address], ...more }
}

function cidr(text: string): Cidr {
  const parsed = parseCidr(text)
  if (parsed.kind === 'invalid') throw new Error(parsed.reason)
  return parsed.cidr
}

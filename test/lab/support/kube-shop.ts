// Manifests of the examples, as `kubectl create` would send them to a real API server.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import type { KubeClient } from '../../../src/io/kube/client.ts'
import type { Cluster } from '../../demo/site.ts'

export interface KubeObject {
  readonly kind: string
  readonly metadata: { readonly namespace: string; readonly name: string }
  readonly items?: readonly KubeObject[]
}

/** The services and endpoints of this cluster's shop, and their namespaces. */
export async function createShop(client: KubeClient, cluster: Cluster): Promise<void> {
  for (const name of ['shop', 'platform'])
    await client.request({ method: 'POST', path: '/api/v1/namespaces', body: { metadata: { name } } })
  for (const object of shop(cluster)) {
    const { kind, metadata } = object
    if (kind === 'Service' || kind === 'EndpointSlice')
      await client.request({ method: 'POST', path: COLLECTION[kind](metadata.namespace), body: object })
  }
}

export const COLLECTION = {
  Service: (namespace: string): string => `/api/v1/namespaces/${namespace}/services`,
  EndpointSlice: (namespace: string): string =>
    `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`
} as const

export function objectsOf(path: string): readonly KubeObject[] {
  return [...parseAllDocuments(readFileSync(path, 'utf8'))]
    .map((document) => ('toJS' in document ? (document.toJS() as KubeObject) : undefined))
    .flatMap((object) => (object === undefined ? [] : (object.items ?? [object])))
}

function shop(cluster: Cluster): readonly KubeObject[] {
  const folder = join('deploy/examples/shop', cluster)
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.yaml')
  )
  return files.flatMap((file) => objectsOf(join(folder, file)))
}

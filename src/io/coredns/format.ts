// The forms in which an object can be asked for: whole, its metadata only, or as rows of a table (kubectl get).
// Source: Kubernetes API, "Receiving resources as Tables", meta.k8s.io/v1.
import type { ResourceName } from '../../core/coredns/objects.ts'
import { RESOURCES, type Format } from './request.ts'

/** One object in a list or event. `text` is its JSON. */
export function formatted(text: string, resource: ResourceName, format: Format): string {
  switch (format) {
    case 'object':
      return text
    case 'metadata':
      return JSON.stringify(metadataOnly(text))
    case 'table':
      return JSON.stringify({ cells: cells(resource, JSON.parse(text)), object: metadataOnly(text) })
    default:
      return format satisfies never
  }
}

interface ListMetadata {
  readonly resourceVersion: string
  readonly continue?: string
  readonly remainingItemCount?: number
}

/** What stands before and after the items, which are joined with commas. */
export function listFrame(
  resource: ResourceName,
  format: Format,
  metadata: ListMetadata
): readonly [string, string] {
  const { apiVersion, kind } = RESOURCES[resource]
  const head =
    format === 'object'
      ? { kind: `${kind}List`, apiVersion, metadata }
      : format === 'metadata'
        ? { kind: 'PartialObjectMetadataList', apiVersion: META, metadata }
        : { kind: 'Table', apiVersion: META, metadata, columnDefinitions: columns(resource) }
  return [`${JSON.stringify(head).slice(0, -1)},"${format === 'table' ? 'rows' : 'items'}":[`, ']}']
}

/** A single object, also of an event: as a table, one of one row. */
export function singleText(text: string, resource: ResourceName, format: Format): string {
  if (format !== 'table') return formatted(text, resource, format)
  const { resourceVersion = '' } = metadataOnly(text).metadata
  const [head, tail] = listFrame(resource, format, { resourceVersion })
  return head + formatted(text, resource, format) + tail
}

const META = 'meta.k8s.io/v1'

interface Metadata {
  readonly name?: string
  readonly resourceVersion?: string
}

/** As far as the tables show them; this server's own texts, so their shape is known. */
interface Shown {
  readonly metadata: Metadata
  readonly spec?: {
    readonly type?: string
    readonly clusterIP?: string
    readonly externalName?: string
    readonly ports?: readonly { readonly port: number; readonly protocol: string }[]
  }
  readonly status?: { readonly phase?: string }
  readonly addressType?: string
  readonly ports?: readonly { readonly port: number }[]
  readonly endpoints?: readonly { readonly addresses: readonly string[] }[]
}

function metadataOnly(text: string): { readonly metadata: Metadata } {
  const { metadata } = JSON.parse(text) as Shown
  return { kind: 'PartialObjectMetadata', apiVersion: META, metadata } as { readonly metadata: Metadata }
}

function columns(resource: ResourceName): readonly object[] {
  return COLUMNS[resource].map((name, index) => ({
    name,
    type: 'string',
    format: index === 0 ? 'name' : '',
    description: '',
    priority: 0
  }))
}

const COLUMNS: Readonly<Record<ResourceName, readonly string[]>> = {
  namespaces: ['Name', 'Status'],
  services: ['Name', 'Type', 'Cluster-IP', 'External-Name', 'Port(s)'],
  endpointslices: ['Name', 'AddressType', 'Ports', 'Endpoints']
}

function cells(resource: ResourceName, object: unknown): readonly string[] {
  const { metadata, spec, status, addressType, ports = [], endpoints = [] } = object as Shown
  const name = metadata.name ?? ''
  if (resource === 'namespaces') return [name, status?.phase ?? '']
  if (resource === 'services') {
    const list = (spec?.ports ?? []).map(({ port, protocol }) => `${port}/${protocol}`)
    return [
      name,
      spec?.type ?? '',
      spec?.clusterIP ?? NONE,
      spec?.externalName ?? NONE,
      list.join(',') || NONE
    ]
  }
  const addresses = endpoints.flatMap((endpoint) => endpoint.addresses)
  const shown =
    addresses.slice(0, 3).join(',') + (addresses.length > 3 ? ` + ${addresses.length - 3} more...` : '')
  return [name, addressType ?? '', ports.map(({ port }) => port).join(',') || NONE, shown || NONE]
}

const NONE = '<none>'

// Renders objects in the three forms that clients of the Kubernetes API request: the whole object, its metadata only,
// or a row of a table (`kubectl get`). Source: Kubernetes API concepts, "Receiving resources as Tables";
// meta.k8s.io/v1.
import type { ResourceName } from '../../core/coredns/objects.ts'
import { RESOURCES, type Format } from './request.ts'

/**
 * Returns the JSON of one item of a list. `text` is the JSON of the whole object, which core/coredns/objects.ts has
 * made.
 */
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

/** Metadata of a list; the last two fields are set only when there are further pages. */
interface ListMetadata {
  readonly resourceVersion: string
  readonly continue?: string
  readonly remainingItemCount?: number
}

/** Returns the texts before and after the items, which the caller writes between them, joined with commas. */
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
  // The closing brace is cut off, so that the items follow as the last field.
  return [`${JSON.stringify(head).slice(0, -1)},"${format === 'table' ? 'rows' : 'items'}":[`, ']}']
}

/** Returns the JSON of a single object, for a GET by name or a watch event. As a table, it is a table with one row. */
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

/**
 * The fields of the three resources that tables show. This server has made the texts, so their shape need not be
 * checked.
 */
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

/** The definitions of the columns; the format "name" marks the first one as the object's name. */
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

/** The values of a row, in the order of COLUMNS, written as kubectl shows them. */
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

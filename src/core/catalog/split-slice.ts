// Splits EndpointSlices that are too large for one record. The Kubernetes API allows 20,000 ports and 1,000 endpoints
// with names of 253 characters; a record has at most 64 KiB. A larger slice is published as several slices, each with
// some of its ports and some of its endpoints. Together they mean the same, because a port is served by every slice
// that lists it; readers need no reassembly.
// Invariants
//   1. Every port together with every endpoint is in exactly one part.
//   2. The parts depend on the slice alone. No other slice can have their names, because PART_SUFFIX is reserved.
import { hashText } from '../model/hash.ts'
import { RECORD_BYTES_MAX } from '../wire/limits.ts'
import { zoneTable } from '../wire/zone-table.ts'
import type { Endpoint, EndpointPort, EndpointSliceValue, ServiceValue } from '../model/values.ts'

/** The end of the names of parts. read-object.ts refuses objects of a source with such a name. */
export const PART_SUFFIX = '.part.rhizome'

/**
 * The parts of a slice; the slice itself when it fits into one record. The first part keeps the name of the slice.
 */
export function splitSlice(slice: EndpointSliceValue): readonly EndpointSliceValue[] {
  const ports = sum(slice.ports, portBytes)
  const endpoints = sum(slice.endpoints, endpointBytes)
  // Each part has room for the whole table of zones: 4 KiB at most.
  const frame = FRAME_BYTES + sum(zoneTable(slice.endpoints), (zone) => 2 + zone.length)
  if (frame + ports + endpoints <= RECORD_BYTES_MAX) return [slice]
  const portGroups = grouped(slice.ports, portBytes, PORT_GROUP_BYTES)
  const largest = Math.max(...portGroups.map((group) => sum(group, portBytes)))
  const endpointGroups = grouped(slice.endpoints, endpointBytes, RECORD_BYTES_MAX - frame - largest)
  return portGroups
    .flatMap((group) => endpointGroups.map((each) => ({ ...slice, ports: group, endpoints: each })))
    .map((part, index) => (index === 0 ? part : { ...part, name: partName(slice.name, index) }))
}

/**
 * The ports of a Service that fit into its one record. The last ones are left out, and catalog.ts warns about them.
 */
export function portsThatFit(service: ServiceValue): ServiceValue['ports'] {
  const { ports, externalName, clusterset, exportTo = [] } = service
  const attributes = [...(clusterset?.labels ?? []), ...(clusterset?.annotations ?? [])]
  const clusters = sum(exportTo, (name) => 2 + name.length)
  const carried = clusters + sum(attributes, ({ key, value }) => 9 + key.length + value.length)
  let room = RECORD_BYTES_MAX - FRAME_BYTES - externalName.length - carried
  const fitting = ports.findIndex((port) => (room -= portBytes(port) + port.appProtocol.length + 3) < 0)
  return fitting < 0 ? ports : ports.slice(0, fitting)
}

// An upper bound for the rest of a record: names of 63, 63 and 253 characters, addresses, tags and lengths.
const FRAME_BYTES = 1024
// At most half of a record is for ports, so that at least the other half is free for endpoints.
const PORT_GROUP_BYTES = (RECORD_BYTES_MAX - FRAME_BYTES) / 2
const NAME_CHARACTERS_MAX = 253

/**
 * An upper bound for the encoded size of a port: tag and length of the port and of its name, protocol (3), number
 * (4).
 */
function portBytes({ name }: Pick<EndpointPort, 'name'>): number {
  return 12 + name.length
}

/**
 * An upper bound for the encoded size of an endpoint: tags and lengths (3 + 2 + 3), three flags (6), addresses of 18
 * bytes, zone (2), and the zones of hints (2 and 1 each).
 */
function endpointBytes({ addresses, hostname, node, zone, forZones }: Endpoint): number {
  const zones = (zone === undefined ? 0 : 2) + (forZones === undefined ? 0 : 2 + forZones.length)
  return 14 + addresses.length * 18 + hostname.length + node.length + zones
}

/**
 * The items in their order, cut into groups of at most `bytesMax` bytes. There is at least one group, and no group is
 * empty unless there are no items. An item larger than `bytesMax` has a group of its own.
 */
function grouped<T>(
  items: readonly T[],
  bytesOf: (item: T) => number,
  bytesMax: number
): readonly (readonly T[])[] {
  const groups: T[][] = [[]]
  let bytes = 0
  for (const item of items) {
    const size = bytesOf(item)
    if (bytes + size > bytesMax && bytes > 0) {
      groups.push([])
      bytes = 0
    }
    bytes += size
    groups.at(-1)?.push(item)
  }
  return groups
}

/**
 * A name of at most 253 characters for the part with this index. A long name is shortened, and a hash of the whole
 * name keeps it unique.
 */
function partName(name: string, index: number): string {
  const suffix = `.${index}${PART_SUFFIX}`
  const room = NAME_CHARACTERS_MAX - suffix.length
  if (name.length <= room) return `${name}${suffix}`
  const hash = hashText(name).toString(36)
  return `${name.slice(0, room - hash.length - 1).replace(/[-.]+$/, '')}-${hash}${suffix}`
}

function sum<T>(items: readonly T[], bytesOf: (item: T) => number): number {
  return items.reduce((bytes, item) => bytes + bytesOf(item), 0)
}

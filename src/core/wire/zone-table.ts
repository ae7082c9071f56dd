// Zones of endpoints on the wire: a slice names each zone once, and its endpoints refer to the names by number. So a zone
// costs an endpoint two bytes, and slices of endpoints that differ in their address only stay small when they are packed
// (packed-value.ts). value-codec.ts calls it.
// Invariant: a table that is returned has at most ZONES_MAX names of the right form, each once.
import { FOR_ZONES_MAX, isZoneName, ZONES_MAX } from '../model/topology.ts'
import type { Endpoint } from '../model/values.ts'

type Zones = Pick<Endpoint, 'zone' | 'forZones'>

/** Returns the names of all zones of the endpoints, in the order in which they first appear. */
export function zoneTable(endpoints: readonly Zones[]): readonly string[] {
  const names = new Set<string>()
  for (const { zone, forZones = [] } of endpoints) {
    if (zone !== undefined) names.add(zone)
    for (const name of forZones) names.add(name)
  }
  return [...names]
}

/** Whether a list of names can be the table of a slice. */
export function isZoneTable(names: readonly string[]): boolean {
  return names.length <= ZONES_MAX && names.every(isZoneName) && new Set(names).size === names.length
}

/** Whether the numbers of an endpoint fit a table with so many names. */
export function areZoneNumbers(zone: number, forZones: readonly number[], names: number): boolean {
  return (
    zone <= names &&
    forZones.length <= FOR_ZONES_MAX &&
    forZones.every((number) => number >= 1 && number <= names) &&
    new Set(forZones).size === forZones.length
  )
}

/** The zones of an endpoint whose numbers fit the table. */
export function zonesOf(
  { zone, forZones }: { readonly zone: number; readonly forZones: readonly number[] },
  table: readonly string[]
): Zones {
  const name = table[zone - 1]
  return {
    ...(name !== undefined && { zone: name }),
    ...(forZones.length > 0 && { forZones: forZones.map((number) => table[number - 1] ?? '') })
  }
}

/** The numbers of an endpoint's zones. Each zone is in the table (zoneTable). */
export function zoneNumbers(
  { zone, forZones = [] }: Zones,
  table: ReadonlyMap<string, number>
): { readonly zone: number; readonly forZones: number[] } {
  const numberOf = (name: string): number => table.get(name) ?? 0
  return { zone: zone === undefined ? 0 : numberOf(zone), forZones: forZones.map(numberOf) }
}

// Reads the zones of the endpoints of an EndpointSlice, for read-object.ts.
// Invariant: a zone that a record cannot carry counts as not known, with a warning. It never keeps the slice from others,
// because the endpoint itself is sound. The API server checks the names in hints, but not endpoints[].zone.
import { quote, isFields, type Fault, type Fields } from '../model/field-check.ts'
import { FOR_ZONES_MAX, isZoneName, ZONES_MAX } from '../model/topology.ts'
import type { Endpoint } from '../model/values.ts'

/** Reads the zones of one slice, endpoint by endpoint. */
export class ZoneReader {
  /** The first zone that does not count; undefined while all do. */
  warning: Fault | undefined
  readonly #names = new Set<string>()

  /** Returns the zones of one endpoint. `where`: its path in the object, for the warning. */
  read(endpoint: Fields, where: string): Pick<Endpoint, 'zone' | 'forZones'> {
    const zone = this.#zone(endpoint['zone'], `${where}.zone`)
    const hints = isFields(endpoint['hints']) ? endpoint['hints'] : {}
    const named = Array.isArray(hints['forZones']) ? hints['forZones'].filter(isFields) : []
    const found = named
      .slice(0, FOR_ZONES_MAX)
      .flatMap(({ name }) => this.#zone(name, `${where}.hints.forZones`) ?? [])
    const forZones = [...new Set(found)]
    return { ...(zone !== undefined && { zone }), ...(forZones.length > 0 && { forZones }) }
  }

  #zone(value: unknown, where: string): string | undefined {
    if (value === undefined || value === null || value === '') return undefined
    if (typeof value !== 'string' || !isZoneName(value)) {
      const shown = typeof value === 'string' ? quote(value.slice(0, 64)) : `of the type ${typeof value}`
      this.warning ??= {
        where,
        message: `${where} ${shown} is no name of a zone, so it counts as not set`,
        fix: 'use at most 63 letters, digits, "-", "_" and ".", as in the label topology.kubernetes.io/zone of a Node'
      }
      return undefined
    }
    if (!this.#names.has(value) && this.#names.size >= ZONES_MAX) {
      this.warning ??= {
        where,
        message: `${where} is the name of one zone more than ${ZONES_MAX}, so it counts as not set`,
        fix: `write the endpoints into several EndpointSlices: each carries at most ${ZONES_MAX} zones`
      }
      return undefined
    }
    this.#names.add(value)
    return value
  }
}

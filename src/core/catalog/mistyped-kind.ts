// Finds objects whose kind or apiVersion is nearly one of those that the mesh reads, for read-object.ts.
import { quote, type Fault } from '../model/field-check.ts'
import { MCS_GROUP, MCS_VERSIONS } from './read-export.ts'
import { nearest } from '../model/nearest.ts'

/** The kinds that the mesh reads, with their apiVersion for hints. */
const OUR_KINDS: Readonly<Record<string, string>> = {
  Service: 'v1',
  EndpointSlice: 'discovery.k8s.io/v1',
  Endpoints: 'v1'
}

/**
 * A fault for an object of a Multi-Cluster Services API that nothing here reads, although its author expects that it does:
 * a ServiceImport, which follows from the exports of other clusters, and a ServiceExport of another implementation's group.
 */
export function unreadExport(kind: string, apiVersion: string): Fault | undefined {
  if (kind === 'ServiceImport')
    return {
      where: 'kind',
      message: 'a ServiceImport has no effect: services that other clusters export need none here',
      fix: 'remove it; to export a Service of this cluster, write a ServiceExport of its name'
    }
  if (kind !== 'ServiceExport') return undefined
  return {
    where: 'apiVersion',
    message: `a ServiceExport with apiVersion ${quote(apiVersion)} has no effect`,
    fix: `use ${MCS_GROUP}/${MCS_VERSIONS[0]}`
  }
}

/**
 * A fault for an object that is nearly one of the kinds above, as in `kind: service`. kubectl refuses it, so it must
 * not be ignored silently. Custom resources have a group with a dot and may have any kind, as Knative's Service has.
 */
export function typoIn(kind: string, apiVersion: string): Fault | undefined {
  const group = apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : ''
  if (group.includes('.') && group.toLowerCase() !== 'discovery.k8s.io') return undefined
  const meant = nearest(kind, Object.keys(OUR_KINDS))
  const version = meant === undefined ? undefined : OUR_KINDS[meant]
  if (version === undefined || kind.length < KIND_CHARACTERS_MIN) return undefined
  if (kind !== meant) {
    return {
      where: 'kind',
      message: `kind ${quote(kind)} does not exist in the Kubernetes API`,
      fix: `use ${meant}`
    }
  }
  return {
    where: 'apiVersion',
    message: `apiVersion ${quote(apiVersion)} has no kind ${kind}`,
    fix: `use ${version}`
  }
}

// A shorter word may be the beginning of one of the kinds above without being a typing error.
const KIND_CHARACTERS_MIN = 5

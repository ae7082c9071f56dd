// The objects of an installation in a cluster, for `install` and `uninstall`. They are found by their label and not by
// a list of names, so that objects of an older version are found, too. core/kube/install.ts has the labels and the
// kinds.
import type { Fields } from '../../core/model/field-check.ts'
import { listCall, MANAGED_BY, pathOf, RESOURCES } from '../../core/kube/install.ts'
import type { AGENT_SETS } from '../../core/kube/install-nodes.ts'
import { hasStatus, listObjects, textAt, type KubeApi, type KubeObject } from '../../core/kube/kube-api.ts'
import { deleteSlice, OWN_SLICES, readSlice } from '../../core/mcs/endpoint-slice.ts'
import { deleteImport, importsPath, readImport } from '../../core/mcs/service-import.ts'
import { MCS_VERSIONS } from '../../core/catalog/read-export.ts'
import { CliError } from '../output/errors.ts'

/**
 * Lists all objects with the label of an installation, in every namespace, in the order in which they are created;
 * removal uses the reverse. A kind that this cluster lacks, such as one of OpenShift, has no objects. Errors: those of
 * the API.
 */
export async function listOurs(api: KubeApi): Promise<readonly KubeObject[]> {
  const found: KubeObject[] = []
  for (const resource of RESOURCES) {
    // Items of a list have no `kind` of their own: the API server gives it only for the whole list.
    const read = (item: Fields): KubeObject => ({ ...item, kind: resource.kind }) as unknown as KubeObject
    found.push(...((await listObjects(api, listCall(resource), read)) ?? []))
  }
  return found
}

// What shows that a namespace has an installation: its agents, or what is left where only the agents were deleted.
const HOME: readonly { readonly kind: string; readonly name: string }[] = [
  { kind: 'DaemonSet', name: 'rhizome' },
  { kind: 'ServiceAccount', name: 'rhizome' },
  { kind: 'Secret', name: 'rhizome-cluster-key' }
]

/** Returns the namespaces that have an installation. `ours`: the objects from listOurs. */
export function homesOf(ours: readonly KubeObject[]): ReadonlySet<string> {
  return new Set(
    ours
      .filter(({ kind, metadata }) => HOME.some((home) => home.kind === kind && home.name === metadata.name))
      .map(({ metadata }) => metadata.namespace ?? '')
  )
}

/**
 * Refuses a command for `namespace` because the installation is in another one: both have the same hosts and the same
 * objects without a namespace. `fix` gets that other namespace. Errors: CliError CONFLICT.
 */
export function refuseElsewhere(
  ours: readonly KubeObject[],
  namespace: string,
  fix: (found: string) => string
): void {
  const found = [...homesOf(ours)].find((home) => home !== namespace)
  if (found === undefined) return
  throw new CliError(
    'CONFLICT',
    `rhizome is installed in the namespace ${found}; nothing was changed`,
    fix(found)
  )
}

/**
 * Deletes an object, and resolves to whether it existed. With the policy Background the API server deletes dependent
 * objects, such as the pods of a DaemonSet, after it has answered. Errors: those of the API, except 404.
 */
export async function remove(api: KubeApi, path: string): Promise<boolean> {
  try {
    await api.request({ method: 'DELETE', path, query: { propagationPolicy: 'Background' } })
    return true
  } catch (error) {
    if (hasStatus(error, 404)) return false
    throw error
  }
}

/**
 * Deletes the ServiceImports and their EndpointSlices that the agents wrote, and resolves to the number of imports; 0 where the
 * cluster has no such API or this account may not list them: the chart of an agent that wrote some gives the cleanup job the
 * right. Errors: those of the API.
 */
export async function removeImports(api: KubeApi): Promise<number> {
  await removeSlices(api)
  for (const version of MCS_VERSIONS) {
    const found = await listObjects(api, { path: importsPath(version) }, readImport).catch(
      (error: unknown) => {
        if (hasStatus(error, 403)) return []
        throw error
      }
    )
    const ours = found?.filter(({ isOurs }) => isOurs) ?? []
    for (const each of ours) await remove(api, deleteImport(version, each).path)
    if (found !== undefined) return ours.length
  }
  return 0
}

/** The right to list does not include that to delete: with mcs=imports this account has the one, and there are no slices. */
async function removeSlices(api: KubeApi): Promise<void> {
  const found = await listObjects(api, OWN_SLICES, readSlice).catch((error: unknown) => {
    if (hasStatus(error, 403)) return []
    throw error
  })
  for (const each of found ?? [])
    await api.request(deleteSlice(each)).catch((error: unknown) => {
      if (!hasStatus(error, 404) && !hasStatus(error, 409)) throw error
    })
}

/** Returns the API path of the DaemonSet of the gateways, or of the one with another name of AGENT_SETS. */
export function agentsPath(namespace: string, name: (typeof AGENT_SETS)[number] = 'rhizome'): string {
  return pathOf({ kind: 'DaemonSet', metadata: { name, namespace } })
}

/**
 * Refuses to change an installation that Helm manages, because two managers would undo each other's changes. `agents`:
 * the DaemonSet, or undefined when there is none. `fix` names the command of Helm to use. Errors: CliError CONFLICT.
 */
export function refuseHelm(agents: Fields | undefined, fix: string): void {
  if (textAt(agents, 'metadata', 'labels', MANAGED_BY) !== 'Helm') return
  const namespace = textAt(agents, 'metadata', 'namespace') ?? ''
  throw new CliError('CONFLICT', `Helm manages the installation in ${namespace}`, fix)
}

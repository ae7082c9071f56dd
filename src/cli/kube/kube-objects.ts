// The objects of an installation in a cluster, found by their label.
import { isFields, type Fields } from '../../core/model/field-check.ts'
import { listCall, MANAGED_BY, pathOf, RESOURCES } from '../../core/kube/install.ts'
import { getObject, hasStatus, textAt, type KubeApi, type KubeObject } from '../../core/kube/kube-api.ts'
import { CliError } from '../output/errors.ts'

/** In the order in which they are created. A kind that this cluster lacks, such as one of OpenShift, has no objects. */
export async function listOurs(api: KubeApi): Promise<readonly KubeObject[]> {
  const found: KubeObject[] = []
  for (const resource of RESOURCES) {
    for (const item of await items(api, resource))
      found.push({ ...item, kind: resource.kind } as unknown as KubeObject)
  }
  return found
}

/** Deletes an object. False: it did not exist. */
export async function remove(api: KubeApi, path: string): Promise<boolean> {
  try {
    await api.request({ method: 'DELETE', path, query: { propagationPolicy: 'Background' } })
    return true
  } catch (error) {
    if (hasStatus(error, 404)) return false
    throw error
  }
}

export function agentsPath(namespace: string): string {
  return pathOf({ kind: 'DaemonSet', metadata: { name: 'rhizome', namespace } })
}

/** Two managers would undo each other's changes. `agents`: the DaemonSet, if there is one. */
export function refuseHelm(agents: Fields | undefined, fix: string): void {
  if (textAt(agents, 'metadata', 'labels', MANAGED_BY) !== 'Helm') return
  const namespace = textAt(agents, 'metadata', 'namespace') ?? ''
  throw new CliError('CONFLICT', `Helm manages the installation in ${namespace}`, fix)
}

async function items(api: KubeApi, resource: (typeof RESOURCES)[number]): Promise<readonly Fields[]> {
  const { path, query = {} } = listCall(resource)
  const list = await getObject(api, `${path}?${new URLSearchParams(query).toString()}`)
  return Array.isArray(list?.['items']) ? list['items'].filter(isFields) : []
}

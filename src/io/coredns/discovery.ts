// The documents of /version and of API discovery, which kubectl and client-go request before they list anything. They
// tell which resources this server has and what can be done with them. They never change and are equal for every
// collection. Source: Kubernetes API reference, "API discovery"; k8s.io/apimachinery/pkg/apis/meta/v1 APIResourceList.
import type { ResourceName } from '../../core/coredns/objects.ts'
import { RESOURCES } from './request.ts'

/**
 * Returns the document at a path below a collection, for example "version"; undefined: there is none, so answer 404.
 */
export function discoveryDocument(path: string): object | undefined {
  return DOCUMENTS.get(path)
}

/** The feed is read-only. */
const VERBS = ['get', 'list', 'watch']

/** One group version with its resources, for example of "v1" services and namespaces. */
function resourceList(groupVersion: string, names: readonly ResourceName[]): object {
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion,
    resources: names.map((name) => ({
      name,
      singularName: RESOURCES[name].singular,
      namespaced: name !== 'namespaces',
      kind: RESOURCES[name].kind,
      verbs: VERBS,
      shortNames: RESOURCES[name].short,
      ...(name === 'services' ? { categories: ['all'] } : {})
    }))
  }
}

const DISCOVERY_VERSION = { groupVersion: 'discovery.k8s.io/v1', version: 'v1' }
const DISCOVERY_GROUP = {
  name: 'discovery.k8s.io',
  versions: [DISCOVERY_VERSION],
  preferredVersion: DISCOVERY_VERSION
}

const DOCUMENTS: ReadonlyMap<string, object> = new Map<string, object>([
  // The version of Kubernetes whose rules this server follows: EndpointSlice v1 came with 1.21, lists that are streamed
  // as watch events (KEP-3157) with 1.34.
  [
    'version',
    { major: '1', minor: '34', gitVersion: 'v1.34.0+rhizome', platform: 'any', goVersion: '', compiler: '' }
  ],
  ['api', { kind: 'APIVersions', apiVersion: 'v1', versions: ['v1'], serverAddressByClientCIDRs: [] }],
  ['apis', { kind: 'APIGroupList', apiVersion: 'v1', groups: [DISCOVERY_GROUP] }],
  ['apis/discovery.k8s.io', { kind: 'APIGroup', apiVersion: 'v1', ...DISCOVERY_GROUP }],
  ['api/v1', resourceList('v1', ['namespaces', 'services'])],
  ['apis/discovery.k8s.io/v1', resourceList('discovery.k8s.io/v1', ['endpointslices'])]
])

// /version and discovery: what kubectl and client-go ask before they list anything.
import type { ResourceName } from '../../core/coredns/objects.ts'
import { RESOURCES } from './request.ts'

/** The document at a path below a collection ("version", "apis/discovery.k8s.io/v1"), or undefined where there is none. */
export function discoveryDocument(path: string): object | undefined {
  return DOCUMENTS.get(path)
}

const VERBS = ['get', 'list', 'watch']

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
  // The API whose rules this server keeps: EndpointSlice v1 (1.21) and streamed lists (1.34).
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

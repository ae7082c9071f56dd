// Reads Kubernetes objects, as YAML or the API gives them, into values of the mesh. Folder and Kubernetes source both
// use it.
// Invariant: for any input the result is a Reading. Nothing here throws, and no reading keeps a reference into the
// input.
// Sources: core/v1 Service and Endpoints, discovery.k8s.io/v1 EndpointSlice, with the limits of their API validation.
import { familyOf } from '../model/cidr.ts'
import { FieldCheck, isFields, quote, type Fault, type Fields } from '../model/field-check.ts'
import type {
  Endpoint,
  EndpointPort,
  EndpointSliceValue,
  Ip,
  ServicePort,
  ServiceValue
} from '../model/values.ts'
import {
  PORT,
  readAddress,
  readAppProtocol,
  readNames,
  readPortName,
  readProtocol,
  refuseTwins
} from './read-fields.ts'
import { typoIn, unreadExport } from './mistyped-kind.ts'
import { withBalance } from './read-balance.ts'
import { readExportTo, type ExportLimit } from './read-export-to.ts'
import {
  MCS_GROUP,
  readExport,
  readTraits,
  type ServiceExportValue,
  type ServiceTraits
} from './read-export.ts'
import { ZoneReader } from './read-zones.ts'
import { PART_SUFFIX } from './split-slice.ts'

/** What an object is for the mesh. */
export type Reading =
  | {
      readonly kind: 'service'
      readonly value: ServiceValue
      /** What counts only when the Service has a ServiceExport. A form that an earlier version has saved has none. */
      readonly traits?: ServiceTraits
      /** The clusters that the Service itself names. */
      readonly limit?: ExportLimit
      /** A part of the object that does not count; the rest is published. */
      readonly warning?: Fault
    }
  | { readonly kind: 'endpointSlice'; readonly value: EndpointSliceValue; readonly warning?: Fault }
  | { readonly kind: 'serviceExport'; readonly value: ServiceExportValue; readonly warning?: Fault }
  /** Another kind of object: Deployment, ConfigMap, an empty document … */
  | { readonly kind: 'ignored' }
  | {
      readonly kind: 'problem'
      readonly where: string
      readonly message: string
      readonly fix: string
      /** Absent: an error, since the object would be published without it. */
      readonly level?: 'error' | 'warning'
      /** The record key that the object would have had, where its names could be read. */
      readonly key?: string
    }

/**
 * Reads one object. A List or an Endpoints contains several and must be taken apart by `expand` of object-list.ts
 * first.
 */
export function toValue(object: unknown): Reading {
  if (object === null || object === undefined) return { kind: 'ignored' }
  if (!isFields(object)) {
    return {
      kind: 'problem',
      where: 'document',
      message: 'the document is not a Kubernetes object: it must be a mapping with apiVersion and kind',
      fix: 'write a Service or EndpointSlice, or move this file out of the folder'
    }
  }
  const check = new FieldCheck()
  const kind = check.required(check.text(object['kind'], 'kind'), 'kind')
  const apiVersion = check.text(object['apiVersion'], 'apiVersion')
  if (check.fault) return problem(check.fault, object)
  if (kind === 'ServiceExport' && apiVersion.startsWith(`${MCS_GROUP}/`)) return readServiceExport(object)
  if (kind === 'Service' && (apiVersion === 'v1' || apiVersion === '')) return readService(object)
  // Such a slice has host names instead of addresses. The load balancer cannot use them, and kube-proxy ignores them,
  // too.
  if (kind === 'EndpointSlice' && object['addressType'] === 'FQDN') return { kind: 'ignored' }
  if (kind === 'EndpointSlice' && apiVersion.startsWith('discovery.k8s.io/')) return readSlice(object)
  if (kind === 'EndpointSlice') return problem(wrongVersion(apiVersion), object)
  if (kind === 'Endpoints' && apiVersion === 'v1') return problem(MALFORMED_ENDPOINTS, object)
  const unread = unreadExport(kind, apiVersion)
  if (unread !== undefined) return problem({ ...unread, level: 'warning' }, object)
  const typo = typoIn(kind, apiVersion)
  return typo === undefined ? { kind: 'ignored' } : problem(typo, object)
}

// Limits of Kubernetes' validation. For the ports of a Service it has none, because the size of an object, about 1.5
// MiB, bounds them; here the limit is the number of port numbers.
const SERVICE_PORTS_MAX = 65_535
const SLICE_PORTS_MAX = 20_000
export const SLICE_ENDPOINTS_MAX = 1000
const ADDRESSES_MAX = 100

function readService(object: Fields): Reading {
  const check = new FieldCheck()
  const { namespace, name } = readNames(check, object)
  check.label(name, 'metadata.name')
  const spec = check.fields(object['spec'], 'spec')
  const type = check.choice(
    spec['type'],
    'spec.type',
    ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'] as const,
    'ClusterIP'
  )
  const external = type === 'ExternalName'
  const ips = external ? [] : readClusterIps(check, spec)
  const traits = readTraits(spec)
  const { trafficDistribution } = traits
  const value: ServiceValue = {
    kind: 'service',
    namespace,
    name,
    clusterIps: ips === 'headless' ? [] : ips,
    ports: readServicePorts(check, spec, !external && ips !== 'headless'),
    headless: ips === 'headless',
    externalName: external ? readExternalName(check, spec) : '',
    affinitySeconds: readAffinity(check, spec),
    publishNotReady: check.flag(spec['publishNotReadyAddresses'], 'spec.publishNotReadyAddresses', false),
    ...(trafficDistribution !== '' && { trafficDistribution })
  }
  const { limit, fault } = readExportTo(object)
  if (fault) check.fail(fault)
  if (check.fault) return problem(check.fault, object)
  return { ...withBalance(value, object, titleOf(object)), traits, limit }
}

function readServiceExport(object: Fields): Reading {
  const check = new FieldCheck()
  const { value, warning } = readExport(check, object, readNames(check, object))
  if (check.fault) return problem(check.fault, object)
  return { kind: 'serviceExport', value, ...placed(warning, object) }
}

/** The warning of a reading with the name of the object in its place; nothing without a warning. */
function placed(warning: Fault | undefined, object: Fields): { readonly warning?: Fault } {
  if (warning === undefined) return {}
  return { warning: { ...warning, where: `${titleOf(object)}: ${warning.where}` } }
}

/**
 * The addresses of a Service, or 'headless' for clusterIP: None. A missing address is a fault: for a folder of
 * manifests no API server allocates one.
 */
function readClusterIps(check: FieldCheck, spec: Fields): readonly Ip[] | 'headless' {
  const list = check.list(spec['clusterIPs'], 'spec.clusterIPs', 2)
  const texts = list.length > 0 ? list : [check.text(spec['clusterIP'], 'spec.clusterIP')]
  if (texts[0] === 'None') return 'headless'
  if (texts[0] === '') {
    check.fail({
      where: 'spec.clusterIP',
      message: 'spec.clusterIP is missing',
      fix: 'set spec.clusterIP to a free address of the service prefix, because no API server chooses one here, or set it to None'
    })
    return []
  }
  const where = list.length > 0 ? 'spec.clusterIPs' : 'spec.clusterIP'
  const ips = texts.map((text) => readAddress(check, text, where))
  return [...new Set(ips.filter((ip) => ip !== undefined))]
}

function readServicePorts(check: FieldCheck, spec: Fields, required: boolean): readonly ServicePort[] {
  const list = check.list(spec['ports'], 'spec.ports', SERVICE_PORTS_MAX)
  if (required && list.length === 0) {
    check.fail({
      where: 'spec.ports',
      message: 'spec.ports is empty',
      fix: 'list at least one port, as in "- port: 80"'
    })
  }
  const ports = list.map((item, index) => {
    const where = `spec.ports[${index}]`
    const port = check.fields(item, where)
    return {
      name: readPortName(check, port, where, list.length > 1),
      protocol: readProtocol(check, port, where),
      port: check.integer(port['port'], `${where}.port`, PORT),
      appProtocol: readAppProtocol(check, port, where)
    }
  })
  refuseTwins(check, 'spec.ports', [
    ports.map((port) => `name ${quote(port.name)}`),
    ports.map((port) => `port ${port.port}/${port.protocol}`)
  ])
  return ports
}

function readExternalName(check: FieldCheck, spec: Fields): string {
  const text = check.text(spec['externalName'], 'spec.externalName')
  const name = check.domain(text.replace(/\.$/, '').toLowerCase(), 'spec.externalName')
  return check.required(name, 'spec.externalName')
}

/** The timeout of ClientIP affinity in seconds; 0 for None. */
function readAffinity(check: FieldCheck, spec: Fields): number {
  const affinity = check.choice(
    spec['sessionAffinity'],
    'spec.sessionAffinity',
    ['None', 'ClientIP'] as const,
    'None'
  )
  if (affinity === 'None') return 0
  const config = check.fields(spec['sessionAffinityConfig'], 'spec.sessionAffinityConfig')
  const clientIp = check.fields(config['clientIP'], 'spec.sessionAffinityConfig.clientIP')
  return check.integer(clientIp['timeoutSeconds'], 'spec.sessionAffinityConfig.clientIP.timeoutSeconds', {
    min: 1,
    max: 86_400,
    // The default of Kubernetes: three hours.
    fallback: 10_800
  })
}

function readSlice(object: Fields): Reading {
  const check = new FieldCheck()
  const { namespace, name } = readNames(check, object)
  if (object['apiVersion'] !== 'discovery.k8s.io/v1') {
    check.fail(wrongVersion(check.text(object['apiVersion'], 'apiVersion')))
  }
  const family = readAddressType(check, object)
  const zones = new ZoneReader()
  const value: EndpointSliceValue = {
    kind: 'endpointSlice',
    namespace,
    name,
    service: readServiceLabel(check, object),
    ports: readSlicePorts(check, object),
    endpoints: check
      .list(object['endpoints'], 'endpoints', SLICE_ENDPOINTS_MAX)
      .map((item, index) => readEndpoint(check, item, { where: `endpoints[${index}]`, family, zones }))
  }
  if (name.endsWith(PART_SUFFIX)) {
    check.fail({
      where: 'metadata.name',
      message: `metadata.name ends in ${PART_SUFFIX}, which is reserved for the parts of large EndpointSlices`,
      fix: 'rename the EndpointSlice'
    })
  }
  if (check.fault) return problem(check.fault, object)
  return { kind: 'endpointSlice', value, ...placed(zones.warning, object) }
}

function readAddressType(check: FieldCheck, object: Fields): 4 | 6 {
  const text = check.text(object['addressType'], 'addressType')
  return check.choice(text || 'none', 'addressType', ['IPv4', 'IPv6'] as const, 'IPv4') === 'IPv4' ? 4 : 6
}

function readServiceLabel(check: FieldCheck, object: Fields): string {
  const metadata = check.fields(object['metadata'], 'metadata')
  const labels = check.fields(metadata['labels'], 'metadata.labels')
  const where = 'metadata.labels."kubernetes.io/service-name"'
  return check.required(check.label(labels['kubernetes.io/service-name'], where), where)
}

function readSlicePorts(check: FieldCheck, object: Fields): readonly EndpointPort[] {
  const list = check.list(object['ports'], 'ports', SLICE_PORTS_MAX)
  const ports = list.flatMap((item, index) => {
    const where = `ports[${index}]`
    const port = check.fields(item, where)
    // A port without a number means "every port", which no load balancer can forward to. kube-proxy skips it, too.
    if (port['port'] === undefined || port['port'] === null) return []
    return [
      {
        name: readPortName(check, port, where, false),
        protocol: readProtocol(check, port, where),
        port: check.integer(port['port'], `${where}.port`, PORT)
      }
    ]
  })
  refuseTwins(check, 'ports', [ports.map((port) => `name ${quote(port.name)}/${port.protocol}`)])
  return ports
}

function readEndpoint(
  check: FieldCheck,
  item: unknown,
  { where, family, zones }: { readonly where: string; readonly family: 4 | 6; readonly zones: ZoneReader }
): Endpoint {
  const endpoint = check.fields(item, where)
  const list = check.list(endpoint['addresses'], `${where}.addresses`, ADDRESSES_MAX)
  if (list.length === 0) check.required('', `${where}.addresses`)
  const addresses = list.map((text) => readAddress(check, text, `${where}.addresses`))
  if (addresses.some((ip) => ip !== undefined && familyOf(ip) !== family)) {
    check.fail({
      where: `${where}.addresses`,
      message: `${where}.addresses has an address that is not an IPv${family} address`,
      fix: 'write one EndpointSlice for each address family, with its addressType'
    })
  }
  const conditions = check.fields(endpoint['conditions'], `${where}.conditions`)
  const ready = check.flag(conditions['ready'], `${where}.conditions.ready`, true)
  return {
    addresses: addresses.filter((ip) => ip !== undefined),
    ready,
    serving: check.flag(conditions['serving'], `${where}.conditions.serving`, ready),
    terminating: check.flag(conditions['terminating'], `${where}.conditions.terminating`, false),
    hostname: check.label(endpoint['hostname'], `${where}.hostname`),
    node: check.objectName(endpoint['nodeName'], `${where}.nodeName`),
    ...zones.read(endpoint, where)
  }
}

// `expand` takes a valid Endpoints apart, so only a malformed one is read as it is.
const MALFORMED_ENDPOINTS: Fault = {
  where: 'subsets',
  message: 'this Endpoints object is malformed',
  fix: 'write it as an EndpointSlice of discovery.k8s.io/v1'
}

function wrongVersion(apiVersion: string): Fault {
  return {
    where: 'apiVersion',
    message: `apiVersion ${quote(apiVersion)} of EndpointSlice is not supported`,
    fix: 'use discovery.k8s.io/v1'
  }
}

/** "Service shop/web", cut to 160 characters. */
function titleOf(object: Fields): string {
  const kind = typeof object['kind'] === 'string' ? object['kind'] : 'object'
  return `${kind} ${namesOf(object).join('/')}`.trim().slice(0, 160)
}

function namesOf({ metadata }: Fields): readonly string[] {
  const texts = isFields(metadata) ? [metadata['namespace'], metadata['name']] : []
  return texts.filter((text) => typeof text === 'string')
}

function problem(fault: Fault, object: Fields): Reading {
  const { where, message, fix, level } = fault
  const key = keyOfObject(object['kind'], namesOf(object))
  return {
    kind: 'problem',
    where: `${titleOf(object)}: ${where}`,
    message,
    fix,
    ...(level && { level }),
    ...(key === undefined ? {} : { key })
  }
}

/** The record key that an object with these names has, for the last good form of a broken manifest. */
function keyOfObject(kind: unknown, names: readonly string[]): string | undefined {
  const prefix = typeof kind === 'string' ? KEY_PREFIXES[kind] : undefined
  if (prefix === undefined || names.length === 0) return undefined
  return names.length === 2 ? `${prefix}/${names.join('/')}` : `${prefix}/default/${names[0]}`
}

const KEY_PREFIXES: Readonly<Record<string, string>> = {
  Service: 'svc',
  EndpointSlice: 'eps',
  ServiceExport: 'exp'
}

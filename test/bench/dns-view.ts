// 10,000 services with three endpoints each: what the DNS bench asks about, in the view and as Kubernetes objects.
import { bodyText, placedObjects } from '../../src/core/coredns/objects.ts'
import type { ClusterName } from '../../src/core/model/values.ts'
import type { MeshView, ServiceView } from '../../src/core/view/view.ts'
import { cluster, endpoint, meshOf, port, service, slice } from '../core/dns/fixtures.ts'

export const BENCH_SERVICES = 10_000
export const BENCH_ZONE = 'cluster.bench'
export const BENCH_SERVICE_PREFIX = '10.2.0.0/16'
const NAMESPACES = 50
export const BENCH_NAMESPACES = Array.from({ length: NAMESPACES }, (_, index) => `ns-${index}`)

export function benchView(): MeshView {
  const services = Array.from({ length: BENCH_SERVICES }, (_, index) => benchService(index))
  return meshOf(
    cluster('bench', { podPrefixes: ['10.64.0.0/14'], servicePrefixes: [BENCH_SERVICE_PREFIX], services })
  )
}

/** One question a line, as dnsperf reads them: each service once. */
export function benchQuestions(zone: string): string {
  return Array.from({ length: BENCH_SERVICES }, (_, index) => `${benchName(index)}.svc.${zone} A\n`).join('')
}

export interface BenchObject {
  /** Where to POST it. */
  readonly path: string
  /** JSON. */
  readonly body: string
}

/** The same services as objects for a real API server: Services before their EndpointSlices. */
export function benchObjects(): readonly BenchObject[] {
  const name = 'bench' as ClusterName
  const views = [...(benchView().clusters.get(name)?.services.values() ?? [])]
  const placed = views.flatMap((view) => placedObjects([{ cluster: name, view }], 'cluster'))
  const of = (resource: string, api: string): readonly BenchObject[] =>
    placed
      .filter((each) => each.resource === resource)
      .map(({ namespace, source }) => ({
        path: `${api}/namespaces/${namespace}/${resource}`,
        body: bodyText(source)
      }))
  return [...of('services', '/api/v1'), ...of('endpointslices', '/apis/discovery.k8s.io/v1')]
}

function benchName(index: number): string {
  return `svc-${index}.ns-${index % NAMESPACES}`
}

function benchService(index: number): ServiceView {
  const [name = '', namespace = ''] = benchName(index).split('.')
  const pods = [0, 1, 2].map((pod) => {
    const number = index * 3 + pod
    return endpoint(`10.${64 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`)
  })
  const ports = [port('http', 80)]
  // From 10.2.1.0 on: an API server keeps the first addresses for itself.
  const vip = `10.2.${1 + (index >> 8)}.${index & 255}`
  return service(`${namespace}/${name}`, [vip], { ports }, slice(pods, ports))
}

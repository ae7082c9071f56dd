// 10,000 services with three endpoints each: what the DNS bench asks about, in the view and as Kubernetes objects.
import { bodyText, placedObjects } from '../../src/core/feed/objects.ts'
import type { ClusterName } from '../../src/core/model.ts'
import type { MeshView, ServiceView } from '../../src/core/view.ts'
import { cluster, endpoint, meshOf, port, service, slice } from '../core/dns/fixtures.ts'

export const BENCH_SERVICES = 10_000
export const BENCH_ZONE = 'cluster.bench'
const NAMESPACES = 50

export function benchView(): MeshView {
  const services = Array.from({ length: BENCH_SERVICES }, (_, index) => benchService(index))
  return meshOf(
    cluster('bench', { podPrefixes: ['10.64.0.0/14'], servicePrefixes: ['10.2.0.0/16'], services })
  )
}

/** One question a line, as dnsperf reads them: each service once. */
export function benchQuestions(zone: string): string {
  return Array.from({ length: BENCH_SERVICES }, (_, index) => `${benchName(index)}.svc.${zone} A\n`).join('')
}

/** The same services as JSON objects for a real API server: Services before their EndpointSlices. */
export function benchObjects(): readonly string[] {
  const objects = [
    ...(benchView()
      .clusters.get('bench' as ClusterName)
      ?.services.values() ?? [])
  ].flatMap((view) => placedObjects([{ cluster: 'bench' as ClusterName, view }], 'cluster'))
  const of = (resource: string): readonly string[] =>
    objects.filter((each) => each.resource === resource).map(({ source }) => bodyText(source))
  return [...of('services'), ...of('endpointslices')]
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
  const vip = `10.2.${index >> 8}.${index & 255}`
  return service(`${namespace}/${name}`, [vip], { ports }, slice(pods, ports))
}

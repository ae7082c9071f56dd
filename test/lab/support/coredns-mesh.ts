// Three clusters with every kind of service, and the ways in which `cluster.all` merges them.
import type { MeshView, ServiceView } from '../../../src/core/view/view.ts'
import { cluster, endpoint, meshOf, port, service, shopMesh, slice } from '../../core/dns/fixtures.ts'

export function threeClusters(): MeshView {
  const edge = cluster('edge', {
    podPrefixes: ['10.21.0.0/16', 'fd00:21::/32'],
    servicePrefixes: ['10.22.0.0/16'],
    services: [
      // A service IP in two clusters, headless in the third.
      service(
        'shop/web',
        [],
        { headless: true },
        slice([endpoint('10.21.0.1', 'web-0'), endpoint('10.21.0.2')], [port('http', 80)])
      ),
      service('shop/db', [], { headless: true }, slice([endpoint('10.21.0.11', 'db-0')], [port('pg', 5432)])),
      // Cold in east, too.
      service('shop/cold', [], { headless: true }),
      service('shop/pay', [], { externalName: 'pay.example.net' }),
      // A label that would end in a hyphen.
      service('shop/portless', [], { headless: true }, slice([endpoint('fd00:21::')], [port('http', 80)])),
      service('devices/camera', ['10.22.0.7'], { ports: [port('rtsp', 554), port('rtsp-udp', 554, 'UDP')] })
    ]
  })
  return meshOf(...shopMesh().clusters.values(), edge)
}

/** The same mesh but for some services of one cluster; undefined removes. */
export function withServices(
  view: MeshView,
  name: string,
  changes: Readonly<Record<string, ServiceView | undefined>>
): MeshView {
  const clusters = Array.from(view.clusters.values(), (each) => {
    if (each.name !== name) return each
    const services = new Map(each.services)
    for (const [key, value] of Object.entries(changes)) {
      if (value === undefined) services.delete(key)
      else services.set(key, value)
    }
    return { ...each, services }
  })
  return { ...view, clusters: new Map(clusters.map((each) => [each.name, each])) }
}

import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import type { CatalogOptions, Problem } from '../../../src/core/catalog/catalog.ts'
import { parseCidr } from '../../../src/core/model/cidr.ts'
import type { Cidr, Snapshot } from '../../../src/core/model/values.ts'
import { createManifestSource } from '../../../src/io/manifests/manifest-source.ts'

const cidr = (text: string): Cidr => {
  const parsed = parseCidr(text)
  return parsed.kind === 'cidr' ? parsed.cidr : assert.fail(parsed.reason)
}

async function readShop(cluster: string, prefixes: CatalogOptions) {
  const read: { snapshot: Snapshot; problems: readonly Problem[] }[] = []
  const source = createManifestSource({
    folder: fileURLToPath(new URL(`../../../deploy/examples/shop/${cluster}`, import.meta.url)),
    onSnapshot: (snapshot, problems) => read.push({ snapshot, problems }),
    catalogOptions: () => prefixes
  })
  await source.start()
  await source.stop()
  return read[0] ?? assert.fail('nothing read')
}

describe('the example shop', () => {
  for (const [index, cluster] of ['west', 'east', 'edge'].entries()) {
    const n = index + 1
    it(`in ${cluster} is free of problems, inside its prefixes, and on the pods that the demo runs`, async () => {
      const prefixes = {
        podPrefixes: [cidr(`10.${n}.0.0/16`)],
        servicePrefixes: [cidr(`10.${100 + n}.0.0/16`)]
      }
      const { snapshot, problems } = await readShop(cluster, prefixes)
      assert.deepEqual(problems, [])
      assert.ok(snapshot.services.length >= 8, `${snapshot.services.length} services`)
      assert.ok(snapshot.services.some(({ namespace, name }) => namespace === 'shop' && name === 'web'))
      assert.ok(snapshot.services.some(({ externalName }) => externalName !== ''))
      assert.ok(snapshot.services.some(({ headless }) => headless))
      const ports = new Set(
        snapshot.endpointSlices.flatMap((slice) => slice.ports.map((port) => `${port.port}/${port.protocol}`))
      )
      assert.deepEqual([...ports].sort(), ['8080/TCP', '8443/TCP', '9090/TCP', '9125/UDP'])
      const pods = new Set(
        snapshot.endpointSlices.flatMap(({ endpoints }) => endpoints.map(({ addresses }) => addresses[0]))
      )
      assert.deepEqual([...pods].map(String).sort(), [`10.${n}.0.11`, `10.${n}.0.12`, `10.${n}.0.13`])
    })
  }
})

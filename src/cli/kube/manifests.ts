// The chart's manifests, as they come with this program. Imported when they are needed: few commands read YAML.
import { readFile } from 'node:fs/promises'
import { Document, parseAllDocuments } from 'yaml'
import type { KubeObject } from '../../core/kube/kube-api.ts'
import { CliError } from '../output/errors.ts'
import { isBundled } from '../release.ts'

export interface Variant {
  readonly openshift: boolean
  readonly webhook: boolean
}

/** Errors: CliError INCOMPLETE. */
export async function readManifests({ openshift, webhook }: Variant): Promise<readonly KubeObject[]> {
  const name = `${openshift ? 'openshift' : 'kubernetes'}${webhook ? '-webhook' : ''}.yaml`
  // This file runs as src/cli/kube/manifests.ts, or within a file of dist/chunks/ when it is bundled.
  const root = isBundled() ? '../..' : '../../..'
  const file = new URL(`${root}/deploy/manifests/${name}`, import.meta.url)
  try {
    return parseAllDocuments(await readFile(file, 'utf8')).map((document) => document.toJS() as KubeObject)
  } catch (error) {
    throw new CliError(
      'INCOMPLETE',
      `cannot read ${file.pathname}`,
      'install meshctl with its folder deploy/manifests beside it',
      { cause: error }
    )
  }
}

/** For kubectl, which reads YAML 1.1: there a bare "off" is false. */
export function formatManifests(objects: readonly KubeObject[]): string {
  return objects
    .map((object) => new Document(object, { schema: 'yaml-1.1' }).toString({ lineWidth: 0 }))
    .join('---\n')
}

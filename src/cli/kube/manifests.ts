// The manifests of deploy/manifests, which are rendered from the chart and come with this program. `install` reads them
// and prints them with --dry-run. The file is imported when it is needed, because few commands read YAML.
import { readFile } from 'node:fs/promises'
import { Document, parseAllDocuments } from 'yaml'
import type { KubeObject } from '../../core/kube/kube-api.ts'
import { CliError } from '../output/errors.ts'
import { isBundled } from '../release.ts'

/** One of the four files of manifests: for OpenShift or not, with the admission webhook or not. */
export interface Variant {
  readonly openshift: boolean
  readonly webhook: boolean
}

/**
 * Reads the objects of one variant, with the values of the chart's defaults; core/kube/install.ts changes them. Errors:
 * CliError INCOMPLETE when the file is missing, because only a part of the program was installed.
 */
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

/**
 * Returns the objects as documents of one YAML text for kubectl. kubectl reads YAML 1.1, in which a bare "off" is the
 * boolean false, so this schema puts such strings in quotes.
 */
export function formatManifests(objects: readonly KubeObject[]): string {
  return objects
    .map((object) => new Document(object, { schema: 'yaml-1.1' }).toString({ lineWidth: 0 }))
    .join('---\n')
}

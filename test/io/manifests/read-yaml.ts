// All objects and faults of a YAML text, as the source of manifests finds them in a file.
import type { Item, Problem } from '../../../src/core/catalog/catalog.ts'
import { yamlDocuments } from '../../../src/io/manifests/read-file.ts'

export function readYaml(
  text: string,
  file: string
): { readonly items: readonly Item[]; readonly problems: readonly Problem[] } {
  const documents = [...yamlDocuments(text, file)]
  return {
    items: documents.flatMap(({ items }) => items),
    problems: documents.flatMap(({ fault }) => (fault === undefined ? [] : [fault]))
  }
}

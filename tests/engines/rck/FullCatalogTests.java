package org.apache.iceberg.rest;

import org.apache.iceberg.catalog.Namespace;
import org.junit.jupiter.api.AfterEach;

/**
 * The kit's catalog tests with what the kit leaves switched off: nested namespaces and slashes in names. The kit clears up
 * namespaces of some names only, and some tests expect that others, too, are not there when they begin.
 */
public class FullCatalogTests extends RESTCompatibilityKitCatalogTests {
  @Override
  protected boolean supportsNestedNamespaces() {
    return true;
  }

  @Override
  protected boolean supportsNamesWithSlashes() {
    return true;
  }

  @AfterEach
  void dropEverything() {
    catalog().listNamespaces().forEach(this::drop);
  }

  private void drop(Namespace namespace) {
    catalog().listNamespaces(namespace).forEach(this::drop);
    catalog().listTables(namespace).forEach(table -> catalog().dropTable(table, false));
    catalog().listViews(namespace).forEach(view -> catalog().dropView(view));
    catalog().dropNamespace(namespace);
  }
}

"""Who answers whom: edges go by their callees' names."""

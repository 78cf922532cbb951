"""Who answers whom: sampled spans in, facts and loops out."""
